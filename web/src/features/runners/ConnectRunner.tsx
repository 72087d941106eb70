import { CopyBlock } from "../../ui/CopyBlock";
import { connectCommand } from "./connectCommand";

/** Says how to connect a runner. */
export function ConnectRunner({ hqUrl }: { hqUrl: string }) {
  const { command, needsToken } = connectCommand(hqUrl);
  return (
    <div className="flex flex-col gap-2">
      <CopyBlock text={command} label="Copy the command" />
      <p className="text-faint text-xs">
        {needsToken
          ? "The runner token is the one HQ was started with (RUNNER_TOKEN)."
          : "This is for the machine HQ runs on. From another machine, give HQ's address there and its runner token (--token)."}
      </p>
    </div>
  );
}
