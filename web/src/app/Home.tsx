import { ConnectRunner } from "../features/runners/ConnectRunner";
import { RunnerCard } from "../features/runners/RunnerCard";
import { SessionTable } from "../features/sessions/SessionTable";
import { byAge, hasEnded } from "../features/sessions/sessionWords";
import { Logo } from "../ui/Logo";
import { openDialog } from "./dialogs";
import { useDirectory } from "./directory";
import { hqUrl } from "./hqUrl";
import { sortRunners } from "./Sidebar";
import { useActions } from "./useActions";
import { useNow } from "./useNow";

/** The overview: what runs where, and what can be started. */
export function Home() {
  const { runners, sessions, known } = useDirectory();
  const actions = useActions();
  const nowMs = useNow(30_000);
  if (!known) return null;
  if (runners.length === 0) return <Welcome />;
  const open = sessions.filter((session) => !hasEnded(session)).sort(byAge);
  const ended = sessions.filter(hasEnded).sort(byAge);
  return (
    <div className="h-full overflow-y-auto">
      <div className="mx-auto flex max-w-240 flex-col gap-8 px-4 py-6 sm:px-8 sm:py-9">
        <h1 className="font-semibold text-xl tracking-tight">Overview</h1>
        <section aria-labelledby="runners-title">
          <h2 id="runners-title" className="mb-3 font-medium text-soft">
            Runners
          </h2>
          <ul className="grid gap-3 sm:grid-cols-2 xl:grid-cols-3">
            {sortRunners(runners).map((runner) => (
              <RunnerCard
                key={runner.runner_id}
                runner={runner}
                running={open.filter((session) => session.runner_id === runner.runner_id).length}
                onStart={(preset) =>
                  openDialog({
                    name: "new",
                    wish: {
                      runnerId: runner.runner_id,
                      ...(preset === undefined ? { command: true } : { preset }),
                    },
                  })
                }
              />
            ))}
          </ul>
        </section>
        <SessionTable
          title="Running"
          empty="Nothing runs. Start an agent or a shell on one of the runners above."
          sessions={open}
          nowMs={nowMs}
          onOpen={(session) => actions.showSession(session.session_id)}
        />
        {ended.length > 0 && (
          <SessionTable
            title="Ended"
            empty=""
            sessions={ended.slice(0, 20)}
            nowMs={nowMs}
            onOpen={(session) => actions.showSession(session.session_id)}
          />
        )}
      </div>
    </div>
  );
}

function Welcome() {
  return (
    <div className="flex h-full items-center justify-center overflow-y-auto p-6">
      <div className="w-full max-w-125 pb-[8vh]">
        <Logo size={36} />
        <h1 className="mt-5 font-semibold text-xl tracking-tight">Connect your first runner</h1>
        <p className="mt-1.5 mb-5 text-soft">
          A runner is a machine that your agents work on. Run this on it: it dials out to HQ and opens no
          port. It appears here by itself.
        </p>
        <ConnectRunner hqUrl={hqUrl} />
      </div>
    </div>
  );
}
