export const isMac = /mac|iphone|ipad/i.test(navigator.platform);

/** Keys to press, such as `["Ctrl", "K"]`. */
export function Kbd({ keys }: { keys: readonly string[] }) {
  return (
    <span className="inline-flex gap-0.5 pointer-coarse:hidden">
      {keys.map((key) => (
        <kbd
          key={key}
          className="min-w-4.5 rounded border border-line bg-sunken px-1 text-center font-sans text-[11px] text-faint leading-4"
        >
          {key}
        </kbd>
      ))}
    </span>
  );
}
