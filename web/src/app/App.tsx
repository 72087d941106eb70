import { useQuery } from "@tanstack/react-query";
import { type ReactNode, useEffect, useState } from "react";
import { LoginPage } from "../features/login/LoginPage";
import { useDarkTheme } from "../features/settings/useDarkTheme";
import { fetchMe, HttpError, login, watchUnauthorized } from "../transport/http";
import { Logo } from "../ui/Logo";
import type { Me } from "../wire/objects";
import { meKey, queryClient } from "./directory";
import { Shell } from "./Shell";

const loggedOut: Me = { login: "none", login_required: true, hq_version: "" };

/** Asks HQ who we are, and shows the login page or the application. */
export function App({ loginToken }: { loginToken: string | null }) {
  const dark = useDarkTheme();
  const [unusedToken, setUnusedToken] = useState(loginToken);
  const [loginError, setLoginError] = useState<string | null>(null);
  const { data: me, failureCount } = useQuery({
    queryKey: meKey,
    queryFn: async () => {
      if (unusedToken) {
        try {
          await login(unusedToken);
        } catch (error) {
          // A link works once; whether we are logged in all the same, HQ will say.
          if (!(error instanceof HttpError)) throw error;
          setLoginError(`The login link did not work: ${error.message}`);
        }
        setUnusedToken(null);
      }
      return askWhoWeAre();
    },
  });

  useEffect(() => watchUnauthorized(() => queryClient.setQueryData(meKey, loggedOut)), []);

  if (!me) return <Waiting>{failureCount > 1 && "HQ cannot be reached. Trying again…"}</Waiting>;
  if (me.login_required && me.login === "none") {
    return (
      <LoginPage
        error={loginError}
        onLogin={() => {
          setLoginError(null);
          void queryClient.invalidateQueries({ queryKey: meKey });
        }}
      />
    );
  }
  return <Shell me={me} dark={dark} />;
}

async function askWhoWeAre(): Promise<Me> {
  try {
    return await fetchMe();
  } catch (error) {
    if (error instanceof HttpError && error.status === 401) return loggedOut;
    throw error;
  }
}

function Waiting({ children }: { children: ReactNode }) {
  return (
    <main className="app-height flex flex-col items-center justify-center gap-4 text-faint">
      <Logo size={32} />
      <p role="status" className="h-5">
        {children}
      </p>
    </main>
  );
}
