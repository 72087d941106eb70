/** A prompt that passes the word on. */
export function Logo({ size = 20 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 24 24" fill="none" aria-hidden="true">
      <rect width="24" height="24" rx="6" className="fill-solid" />
      <path
        d="M6 7l5 5-5 5"
        className="stroke-on-solid"
        strokeWidth="2.25"
        strokeLinecap="round"
        strokeLinejoin="round"
      />
      <circle cx="16.5" cy="12" r="2.5" fill="light-dark(#98a6ff, #4450cf)" />
    </svg>
  );
}
