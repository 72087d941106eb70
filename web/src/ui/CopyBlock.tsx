import { Check, Copy } from "lucide-react";
import { useEffect, useState } from "react";
import { IconButton } from "./Button";

/** A command to copy. */
export function CopyBlock({ text, label }: { text: string; label: string }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 1_500);
    return () => clearTimeout(timer);
  }, [copied]);
  return (
    <div className="flex items-start gap-1 rounded-lg border border-line bg-sunken py-1.5 pr-1.5 pl-3 text-left">
      <code className="min-w-0 flex-1 select-all whitespace-pre-wrap break-all py-1 font-mono text-ink text-xs">
        {text}
      </code>
      {/* There is no clipboard where the page came without TLS from another machine. */}
      {navigator.clipboard && (
        <IconButton
          label={copied ? "Copied" : label}
          onClick={() => void navigator.clipboard.writeText(text).then(() => setCopied(true))}
        >
          {copied ? <Check size={14} className="text-good" /> : <Copy size={14} />}
        </IconButton>
      )}
    </div>
  );
}
