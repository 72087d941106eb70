/** A sentence from HQ; what stands between backticks in it is code. */
export function Sentence({ children }: { children: string }) {
  return children.split("`").map((part, index) =>
    index % 2 === 0 ? (
      part
    ) : (
      // biome-ignore lint/suspicious/noArrayIndexKey: the parts of a sentence have no other identity
      <code key={index} className="font-mono text-[0.93em]">
        {part}
      </code>
    ),
  );
}
