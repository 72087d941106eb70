import { type FormEvent, useState } from "react";
import { login } from "../../transport/http";
import { Button } from "../../ui/Button";
import { Field, TextInput } from "../../ui/Field";
import { Logo } from "../../ui/Logo";

interface LoginPageProps {
  /** Why the last try failed, such as a login link that was used before. */
  error: string | null;
  onLogin: () => void;
}

export function LoginPage({ error: firstError, onLogin }: LoginPageProps) {
  const [token, setToken] = useState("");
  const [error, setError] = useState(firstError);
  const [busy, setBusy] = useState(false);

  async function submit(event: FormEvent) {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await login(token.trim());
      onLogin();
    } catch (reason) {
      setError(reason instanceof Error ? reason.message : String(reason));
      setBusy(false);
    }
  }

  return (
    <main className="app-height flex items-center justify-center overflow-y-auto bg-sunken p-6">
      <form onSubmit={submit} className="w-full max-w-85 animate-fade pb-[8vh]">
        <Logo size={36} />
        <h1 className="mt-5 font-semibold text-xl tracking-tight">Log in to AgentRelay</h1>
        <p className="mt-1.5 mb-6 text-soft">
          Run{" "}
          <code className="whitespace-nowrap rounded bg-hover px-1 py-0.5 font-mono text-xs">
            agentrelay-hq --login-link
          </code>{" "}
          on the machine HQ runs on and open the link, or paste its token here.
        </p>
        <Field label="Token" htmlFor="token" error={error ?? undefined}>
          <TextInput
            id="token"
            data-testid="login-token"
            type="password"
            mono
            autoFocus
            autoComplete="current-password"
            value={token}
            aria-invalid={error !== null}
            onChange={(event) => setToken(event.target.value)}
            className="h-9.5"
          />
        </Field>
        <Button
          type="submit"
          look="solid"
          disabled={busy || token.trim() === ""}
          className="mt-3 h-9.5 w-full"
        >
          {busy ? "Logging in…" : "Log in"}
        </Button>
      </form>
    </main>
  );
}
