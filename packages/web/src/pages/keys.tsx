import { type KeyScope, type PriceCapWire, parseCredits } from "@gfe/sdk";
import { useMutation, useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { client, credits, queryClient, when } from "../client.ts";
import { SignedIn } from "../parts/account.tsx";
import { Fault, Field, Page, Table } from "../parts/parts.tsx";
import { Revoke, Secret } from "../parts/secrets.tsx";

const SCOPES: [KeyScope, string][] = [
  ["inference", "ask models, and pay for it"],
  ["read", "see jobs, balance and ledger"],
  ["manage", "make and revoke keys and tokens, set prices"],
];
const CHOSEN_AT_FIRST: readonly KeyScope[] = ["inference", "read"];

const CAPS = [
  ["per_request", "a request"],
  ["per_million_input", "a million tokens in"],
  ["per_million_output", "a million tokens out"],
] as const satisfies readonly (readonly [keyof PriceCapWire, string])[];

function capText(cap: PriceCapWire | null): string {
  const parts = CAPS.flatMap(([part, what]) =>
    cap?.[part] == null ? [] : [`${credits(cap[part])} ${what}`],
  );
  return parts.join(", ") || "any price";
}

export function Keys() {
  return (
    <SignedIn title="API keys">
      <KeyList />
    </SignedIn>
  );
}

function KeyList() {
  const [secret, setSecret] = useState<string | null>(null);
  const { data, error } = useQuery({ queryKey: ["keys"], queryFn: client.keys });
  const reload = () => queryClient.invalidateQueries({ queryKey: ["keys"] });
  const revoke = useMutation({ mutationFn: client.revokeKey, onSuccess: reload });
  const onMade = async (made: string) => {
    setSecret(made);
    await reload();
  };
  return (
    <Page title="API keys" intro="A key speaks for you: give each program its own, with a budget.">
      {secret && <Secret secret={secret} what="key" onDone={() => setSecret(null)} />}
      <NewKey onMade={onMade} />
      <Fault error={revoke.error ?? error} />
      <Table
        caption="API keys"
        head={[
          "Label",
          "Key",
          "Scopes",
          "Budget",
          "Pays at most",
          "A minute",
          "Expires",
          "Last used",
          "Action",
        ]}
        rows={
          data?.map((key) => [
            key.label,
            <code key="prefix">{key.prefix}…</code>,
            key.scopes.join(", "),
            key.budget_micro === null
              ? "none"
              : `${credits(key.spent_micro)} of ${credits(key.budget_micro)}`,
            capText(key.max_price),
            key.requests_per_minute === null ? "any" : `${key.requests_per_minute} requests`,
            when(key.expires_at),
            when(key.last_used_at),
            <Revoke
              key="revoke"
              label={key.label}
              revokedAt={key.revoked_at}
              busy={revoke.isPending}
              onRevoke={() => revoke.mutate(key.id)}
            />,
          ]) ?? null
        }
        empty="No keys yet."
      />
    </Page>
  );
}

function NewKey({ onMade }: { onMade: (secret: string) => Promise<void> }) {
  const create = useMutation({
    mutationFn: async (form: HTMLFormElement) => ({ form, made: await client.createKey(readForm(form)) }),
    onSuccess: async ({ form, made }) => {
      form.reset();
      await onMade(made.secret);
    },
  });
  const onSubmit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    create.mutate(event.currentTarget);
  };
  return (
    <form onSubmit={onSubmit} className="card space-y-4">
      <div className="grid gap-4 sm:grid-cols-3">
        <Field label="Label" name="label" required maxLength={80} />
        <Field label="Budget in credits (optional)" name="budget" inputMode="decimal" maxLength={20} />
        <Field label="Last day (optional)" name="expiry" type="date" />
        <Field
          label="Requests a minute (optional)"
          name="requests"
          type="number"
          min={1}
          max={1_000_000}
          step={1}
        />
        {CAPS.map(([part, what]) => (
          <Field
            key={part}
            label={`Pays at most, ${what} (optional)`}
            name={part}
            inputMode="decimal"
            maxLength={20}
          />
        ))}
      </div>
      <fieldset className="space-y-1">
        <legend className="text-sm text-text-2">The key may</legend>
        {SCOPES.map(([scope, meaning]) => (
          <label key={scope} className="flex gap-2">
            <input
              type="checkbox"
              name="scope"
              value={scope}
              defaultChecked={CHOSEN_AT_FIRST.includes(scope)}
              className="accent-gold"
            />
            <span>
              {scope}: <span className="text-text-2">{meaning}</span>
            </span>
          </label>
        ))}
      </fieldset>
      <Fault error={create.error} />
      <button type="submit" className="button-gold" disabled={create.isPending}>
        Make a key
      </button>
    </form>
  );
}

/** Throws an Error that says which field is wrong. */
function readForm(form: HTMLFormElement) {
  const fields = new FormData(form);
  const scopes = fields.getAll("scope") as KeyScope[];
  if (scopes.length === 0) throw new Error("A key must be allowed something: tick at least one box");
  const amount = (name: string, what: string): string | null => {
    const text = String(fields.get(name)).trim();
    const micro = text === "" ? null : parseCredits(text);
    if (text !== "" && (micro === null || micro < 0n))
      throw new Error(`${what} must be an amount of credits such as 5 or 2.50`);
    return micro?.toString() ?? null;
  };
  const max_price: PriceCapWire = Object.fromEntries(
    CAPS.map(([part, what]) => [part, amount(part, `What it pays at most, ${what},`)]),
  );
  const requests = String(fields.get("requests"));
  const day = String(fields.get("expiry"));
  return {
    label: String(fields.get("label")),
    scopes,
    budget_micro: amount("budget", "The budget"),
    max_price,
    requests_per_minute: requests === "" ? null : Number(requests),
    expires_at: day === "" ? null : new Date(`${day}T23:59:59`).toISOString(),
  };
}
