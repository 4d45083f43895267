import { SdkError } from "@gfe/sdk";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type ReactNode, useId, useState } from "react";
import { client } from "../client.ts";

export function Page({ title, intro, children }: { title: string; intro?: ReactNode; children: ReactNode }) {
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

export function Field({ label, ...props }: { label: string } & React.ComponentProps<"input">) {
  const id = useId();
  return (
    <div className="space-y-1">
      <label htmlFor={id} className="text-sm text-text-2">
        {label}
      </label>
      <input id={id} className="field" {...props} />
    </div>
  );
}

/** What went wrong, told to screen readers at once. */
export function Fault({ error }: { error: unknown }) {
  if (!error) return null;
  return (
    <p role="alert" className="rounded-lg border border-danger p-3 text-danger">
      ✕ {error instanceof Error ? error.message : String(error)}
    </p>
  );
}

export function Copy({ text, label = "Copy" }: { text: string; label?: string }) {
  const [done, setDone] = useState(false);
  const copy = () =>
    void navigator.clipboard.writeText(text).then(() => {
      setDone(true);
      setTimeout(() => setDone(false), 1500);
    });
  return (
    <button type="button" className="button shrink-0 text-sm" onClick={copy}>
      {done ? "Copied ✓" : label}
    </button>
  );
}

export function Command({ text }: { text: string }) {
  return (
    <div className="flex items-center gap-2">
      <code className="grow overflow-x-auto rounded-lg bg-bg p-3 font-mono text-sm whitespace-pre">
        {text}
      </code>
      <Copy text={text} />
    </div>
  );
}

/** A secret, shown this once. */
export function Secret({ secret, what, onDone }: { secret: string; what: string; onDone: () => void }) {
  return (
    <div role="status" className="card space-y-3 border-gold">
      <p className="text-gold">This {what} is shown once. Keep it now.</p>
      <div className="flex items-center gap-2">
        <code data-testid="secret" className="grow overflow-x-auto rounded-lg bg-bg p-3 font-mono text-sm">
          {secret}
        </code>
        <Copy text={secret} />
      </div>
      <button type="button" className="button" onClick={onDone}>
        I have kept it
      </button>
    </div>
  );
}

export function Table({
  caption,
  head,
  rows,
  empty,
}: {
  caption: string;
  head: string[];
  rows: ReactNode[][];
  empty: ReactNode;
}) {
  if (rows.length === 0) return <p className="card text-text-2">{empty}</p>;
  return (
    <div className="card overflow-x-auto p-0 sm:p-0">
      <table className="w-full text-left text-sm tabular-nums">
        <caption className="sr-only">{caption}</caption>
        <thead className="text-text-3">
          <tr>
            {head.map((cell) => (
              <th key={cell} scope="col" className="px-4 py-3 font-normal">
                {cell}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, i) => (
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
    </div>
  );
}

/** The signed-in account; null when nobody is. */
export function useMe() {
  return useQuery({
    queryKey: ["me"],
    queryFn: () =>
      client.me().catch((error: unknown) => {
        if (error instanceof SdkError && error.status === 401) return null;
        throw error;
      }),
  });
}

/** Its children only for who is signed in; everyone else is sent to sign in and comes back. */
export function SignedIn({ children }: { children: ReactNode }) {
  const { data: me, error, isPending } = useMe();
  if (isPending) return <Page title="…">{null}</Page>;
  if (error)
    return (
      <Page title="Something is wrong">
        <Fault error={error} />
      </Page>
    );
  if (me) return children;
  const back = window.location.pathname + window.location.search;
  return (
    <Page title="Sign in first">
      <Link to="/sign-in" search={{ back }} className="button-gold inline-block">
        Sign in or register
      </Link>
    </Page>
  );
}
