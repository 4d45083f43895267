/** What several pages are made of. */
import { SdkError } from "@gfe/sdk";
import { type ReactNode, useEffect, useId, useState } from "react";

const COPIED_SHOWN_MS = 1_500;

interface PageProps {
  title: string;
  intro?: ReactNode;
  children: ReactNode;
}

export function Page({ title, intro, children }: PageProps) {
  useEffect(() => {
    document.title = `${title} · GPU For Everyone`;
  }, [title]);
  return (
    <section className="mx-auto w-full max-w-5xl space-y-6 px-4 py-8">
      <header className="space-y-2">
        <h1 className="text-2xl font-semibold">{title}</h1>
        {intro && <p className="text-text-2">{intro}</p>}
      </header>
      {children}
    </section>
  );
}

type FieldProps = { label: string; hint?: string } & React.ComponentProps<"input">;

export function Field({ label, hint, ...props }: FieldProps) {
  const id = useId();
  const hintId = useId();
  return (
    <div className="space-y-1">
      <label htmlFor={id} className="text-sm text-text-2">
        {label}
      </label>
      <input id={id} className="field" aria-describedby={hint ? hintId : undefined} {...props} />
      {hint && (
        <p id={hintId} className="text-sm text-text-3">
          {hint}
        </p>
      )}
    </div>
  );
}

/** What went wrong, told to screen readers at once. */
export function Fault({ error }: { error: unknown }) {
  if (!error) return null;
  const wait = error instanceof SdkError && error.retryAfterS ? ` Try again in ${error.retryAfterS} s.` : "";
  return (
    <p role="alert" className="rounded-lg border border-danger p-3 text-danger">
      ✕ {error instanceof Error ? error.message : String(error)}
      {wait}
    </p>
  );
}

export function Copy({ text, label = "Copy" }: { text: string; label?: string }) {
  const [result, setResult] = useState<"done" | "failed" | null>(null);
  const copy = async () => {
    const written = await navigator.clipboard?.writeText(text).then(
      () => true,
      () => false,
    );
    setResult(written ? "done" : "failed");
    setTimeout(() => setResult(null), COPIED_SHOWN_MS);
  };
  return (
    <button type="button" className="button shrink-0 text-sm" onClick={() => void copy()}>
      <span aria-live="polite">
        {result === "done" ? "Copied ✓" : result === "failed" ? "Select and copy it yourself" : label}
      </span>
    </button>
  );
}

export function Command({ text, label }: { text: string; label?: string }) {
  return (
    <div className="flex items-start gap-2">
      <code className="min-w-0 grow rounded-lg bg-bg p-3 font-mono text-sm break-all whitespace-pre-wrap">
        {text}
      </code>
      <Copy text={text} {...(label ? { label } : {})} />
    </div>
  );
}

interface TableProps {
  caption: string;
  head: string[];
  /** Null while they are on their way. */
  rows: ReactNode[][] | null;
  empty: ReactNode;
}

export function Table({ caption, head, rows, empty }: TableProps) {
  if (rows?.length === 0) return <p className="card text-text-2">{empty}</p>;
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a wide table must be scrollable by keyboard
    <section className="card overflow-x-auto p-0 sm:p-0" aria-label={caption} tabIndex={0}>
      <table className="w-full text-left text-sm tabular-nums" aria-busy={rows === null}>
        <caption className="sr-only">{caption}</caption>
        <thead className="text-text-3">
          <tr>
            {head.map((cell) => (
              <th key={cell} scope="col" className="px-4 py-3 font-normal whitespace-nowrap">
                {cell}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {(rows ?? [["Loading …"]]).map((row, i) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: rows have no state
            <tr key={i} className="border-t border-overlay">
              {row.map((cell, j) => (
                // biome-ignore lint/suspicious/noArrayIndexKey: nor have cells
                <td key={j} className="px-4 py-3">
                  {cell}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

interface FigureProps {
  name: string;
  value: ReactNode;
  gold?: boolean;
  testId?: string;
}

/** A number with its name, for a `dl`. */
export function Figure({ name, value, gold, testId }: FigureProps) {
  return (
    <div className="card flex flex-col-reverse">
      <dt className="text-sm text-text-2">{name}</dt>
      <dd className={`text-2xl font-semibold tabular-nums ${gold ? "text-gold" : ""}`} data-testid={testId}>
        {value}
      </dd>
    </div>
  );
}
