/** The directory of runners and sessions as the page has it: pushed by HQ, asked for only where that fails. */
import { QueryClient, useQuery } from "@tanstack/react-query";
import { useEffect } from "react";
import { create } from "zustand";
import { EventFeed } from "../transport/eventFeed";
import { fetchDirectory, HttpError } from "../transport/http";
import { applyEvent, type Directory } from "../wire/directory";

/** A mistake of ours is not mended by repetition; an HQ that is away comes back. */
const isWorthRetrying = (error: Error) => !(error instanceof HttpError && error.status < 500);

export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      retry: (_failures, error) => isWorthRetrying(error),
      retryDelay: (failures) => Math.min(5_000, 250 * 2 ** failures),
      staleTime: Number.POSITIVE_INFINITY,
      refetchOnWindowFocus: false,
    },
    mutations: { networkMode: "always" },
  },
});

export const directoryKey = ["directory"] as const;
export const meKey = ["me"] as const;

const POLL_MS = 5_000;
/** With no snapshot by then something between us and HQ holds the stream back. */
const PATIENCE_MS = 3_000;

const nothing: Directory = { runners: [], sessions: [] };

/** Whether events arrive now. `patient` until it is time to ask instead. */
export const useFeed = create<{ live: boolean; patient: boolean }>()(() => ({ live: false, patient: true }));

/** Follow HQ's events for as long as the component is there. */
export function useDirectoryFeed(): void {
  useEffect(() => {
    let patience: ReturnType<typeof setTimeout>;
    const wait = () => {
      patience = setTimeout(() => useFeed.setState({ patient: false }), PATIENCE_MS);
    };
    const feed = new EventFeed({
      onEvent(event) {
        // An answer that was under way is older than this.
        void queryClient.cancelQueries({ queryKey: directoryKey });
        queryClient.setQueryData<Directory>(directoryKey, (known = nothing) => applyEvent(known, event));
      },
      onLive(live) {
        clearTimeout(patience);
        useFeed.setState({ live, patient: true });
        if (live) return;
        wait();
        // An EventSource does not say why it failed; perhaps HQ wants a login again.
        void queryClient.refetchQueries({ queryKey: meKey }, { cancelRefetch: false });
      },
    });
    const resume = () => document.visibilityState === "visible" && !useFeed.getState().live && feed.start();
    feed.start();
    wait();
    addEventListener("online", resume);
    document.addEventListener("visibilitychange", resume);
    return () => {
      clearTimeout(patience);
      feed.stop();
      useFeed.setState({ live: false, patient: true });
      removeEventListener("online", resume);
      document.removeEventListener("visibilitychange", resume);
    };
  }, []);
}

/** Give all runners and sessions; `known` is false until HQ has told. */
export function useDirectory(): Directory & { known: boolean } {
  const { live, patient } = useFeed();
  const { data } = useQuery({
    queryKey: directoryKey,
    queryFn: fetchDirectory,
    enabled: !live && !patient,
    refetchInterval: POLL_MS,
  });
  return { ...(data ?? nothing), known: data !== undefined };
}
