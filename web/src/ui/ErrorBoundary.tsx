import { Component, type ReactNode } from "react";
import { Button } from "./Button";

interface ErrorBoundaryProps {
  /** What could not be shown, such as "This page". */
  what: string;
  children: ReactNode;
}

/** Says what broke, instead of an empty page. Mostly a part that could not be loaded: HQ was updated or is away. */
export class ErrorBoundary extends Component<ErrorBoundaryProps, { error: unknown }> {
  override state: { error: unknown } = { error: null };

  static getDerivedStateFromError(error: unknown) {
    return { error };
  }

  override render() {
    if (this.state.error === null) return this.props.children;
    return (
      <div className="fixed inset-x-4 bottom-4 z-50 flex justify-center">
        <div role="alert" className="w-full max-w-110 rounded-xl bg-raised p-4 shadow-float">
          <p className="font-semibold">{this.props.what} could not be shown</p>
          <p className="mt-1 break-words text-soft text-xs">{String(this.state.error)}</p>
          <div className="mt-3 flex gap-2">
            <Button look="solid" size="small" onClick={() => location.reload()}>
              Reload the page
            </Button>
            <Button size="small" look="quiet" onClick={() => this.setState({ error: null })}>
              Dismiss
            </Button>
          </div>
        </div>
      </div>
    );
  }
}
