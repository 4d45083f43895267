import { parseCredits } from "@gfe/sdk";
import { useMutation, useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { client, credits, queryClient, when } from "../client.ts";
import { Fault, Field, Page, Secret, SignedIn, Table } from "../parts/parts.tsx";

export function Keys() {
  return (
    <SignedIn>
      <KeyList />
    </SignedIn>
  );
}

function KeyList() {
  const [secret, setSecret] = useState<string | null>(null);
  const { data, error } = useQuery({ queryKey: ["keys"], queryFn: client.keys });
  const reload = () => queryClient.invalidateQueries({ queryKey: ["keys"] });
  const create = useMutation({
    mutationFn: async (form: FormData) => {
      const budget = String(form.get("budget") ?? "").trim();
      const micro = budget === "" ? null : parseCredits(budget);
      if (budget !== "" && (micro === null || micro < 0n))
        throw new Error("The budget must be an amount of credits such as 5 or 2.50");
      const expiry = String(form.get("expiry") ?? "");
      return client.createKey({
        label: String(form.get("label")),
        budget_micro: micro?.toString() ?? null,
        expires_at: expiry === "" ? null : new Date(`${expiry}T23:59:59`).toISOString(),
      });
    },
    onSuccess: async (made) => {
      setSecret(made.secret);
      await reload();
    },
  });
  const revoke = useMutation({ mutationFn: client.revokeKey, onSuccess: reload });
  const onSubmit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    create.mutate(new FormData(event.currentTarget));
    event.currentTarget.reset();
  };
  return (
    <Page title="API keys" intro="A key speaks for you: give each program its own, with a budget.">
      {secret && <Secret secret={secret} what="key" onDone={() => setSecret(null)} />}
      <form onSubmit={onSubmit} className="card grid gap-4 sm:grid-cols-4 sm:items-end">
        <Field label="Label" name="label" required maxLength={80} />
        <Field label="Budget in credits (optional)" name="budget" inputMode="decimal" />
        <Field label="Expires on (optional)" name="expiry" type="date" />
        <button type="submit" className="button-gold" disabled={create.isPending}>
          Make a key
        </button>
      </form>
      <Fault error={create.error ?? revoke.error ?? error} />
      <Table
        caption="API keys"
        head={["Label", "Key", "Scopes", "Budget", "Expires", "Last used", ""]}
        rows={(data ?? []).map((key) => [
          key.label,
          <code key="prefix">{key.prefix}…</code>,
          key.scopes.join(", "),
          key.budget_micro === null ? "none" : `${credits(key.spent_micro)} of ${credits(key.budget_micro)}`,
          when(key.expires_at),
          when(key.last_used_at),
          key.revoked_at ? (
            <span key="revoked" className="text-text-3">
              revoked
            </span>
          ) : (
            <button
              key="revoke"
              type="button"
              className="button text-sm"
              onClick={() => revoke.mutate(key.id)}
            >
              Revoke
            </button>
          ),
        ])}
        empty="No keys yet."
      />
    </Page>
  );
}
