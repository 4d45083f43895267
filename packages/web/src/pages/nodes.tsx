import type { NodeView } from "@gfe/sdk";
import { useMutation, useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { client, queryClient, when } from "../client.ts";
import { SignedIn } from "../parts/account.tsx";
import { ProviderDisputes } from "../parts/disputes.tsx";
import { Command, Fault, Field, Figure, Page, Table } from "../parts/parts.tsx";
import { Reputations } from "../parts/reputation.tsx";
import { Revoke, Secret } from "../parts/secrets.tsx";
import { Standings } from "../parts/standing.tsx";

const DAYS = 30;

export function Nodes() {
  return (
    <SignedIn title="My nodes">
      <NodeList />
    </SignedIn>
  );
}

function NodeList() {
  const { data, error } = useQuery({ queryKey: ["nodes"], queryFn: client.nodes });
  return (
    <Page title="My nodes" intro="Machines that earn for you.">
      <Earnings />
      <Fault error={error} />
      <Table
        caption="Nodes"
        head={["Node", "State", "GPU", "Models", "Reputation", "Running", "Last seen"]}
        rows={data?.map(cells) ?? null}
        empty="Waiting for your first machine: the command is below."
      />
      {data && data.length > 0 && (
        <>
          <Standings nodes={data} />
          <Reputations nodes={data} />
          <ProviderDisputes nodes={data} />
        </>
      )}
      <div className="card space-y-3">
        <h2 className="text-lg font-semibold">Add one</h2>
        <Command text={`npm run gfe -- up --hub ${window.location.origin}`} />
        <p className="text-text-2">
          It prints a code to approve here. For a machine without a browser near, make a token:
        </p>
      </div>
      <Tokens />
    </Page>
  );
}

const PAUSED: Readonly<Record<string, string>> = {
  owner_paused: "paused by you",
  schedule: "paused: outside its schedule",
  daily_hours: "paused: its hours of today are over",
  keyboard: "paused: somebody is at the keyboard",
  game: "paused: another program uses the GPU",
  battery: "paused: on battery",
  metered: "paused: on a metered network",
  temperature: "paused: too hot",
  power: "paused: takes too much power",
  memory: "paused: others need its memory",
};
const pausedWords = (reason: string | undefined): string =>
  reason === undefined ? "draining" : (PAUSED[reason] ?? "paused");

function cells(node: NodeView) {
  return [
    node.name,
    node.online ? (
      <span key="state" className={node.draining ? "text-warn" : "text-success"}>
        {node.draining ? `◌ ${pausedWords(node.paused_for)}` : "● online"}
      </span>
    ) : (
      <span key="state" className="text-text-3">
        ○ offline
      </span>
    ),
    node.gpus.map((gpu) => gpu.name).join(", ") || "CPU",
    node.models.map(({ model }) => model).join(", ") || "–",
    node.reputation === undefined ? "–" : Math.round(node.reputation),
    `${node.running} of ${node.slots}`,
    when(node.last_seen_at),
  ];
}

function Earnings() {
  const { data, error } = useQuery({
    queryKey: ["earnings"],
    queryFn: () => client.providerStats(DAYS),
  });
  if (error) return <Fault error={error} />;
  return (
    <dl className="grid grid-cols-2 gap-3 sm:grid-cols-3">
      <Figure gold name={`credits earned in ${DAYS} days`} value={data?.period_earnings ?? "–"} />
      <Figure name={`jobs served in ${DAYS} days`} value={data?.period_jobs_served ?? "–"} />
      <Figure name="credits earned in all" value={data?.total_earnings ?? "–"} />
    </dl>
  );
}

function Tokens() {
  const [secret, setSecret] = useState<string | null>(null);
  const { data, error } = useQuery({ queryKey: ["agent-tokens"], queryFn: client.agentTokens });
  const reload = () => queryClient.invalidateQueries({ queryKey: ["agent-tokens"] });
  const create = useMutation({
    mutationFn: async (form: HTMLFormElement) => {
      const made = await client.createAgentToken(String(new FormData(form).get("label")));
      return { form, made };
    },
    onSuccess: async ({ form, made }) => {
      form.reset();
      setSecret(made.secret);
      await reload();
    },
  });
  const revoke = useMutation({ mutationFn: client.revokeAgentToken, onSuccess: reload });
  const onSubmit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    create.mutate(event.currentTarget);
  };
  return (
    <>
      <h2 className="text-xl font-semibold">Agent tokens</h2>
      {secret && <Secret secret={secret} what="token" onDone={() => setSecret(null)} />}
      <form onSubmit={onSubmit} className="card flex flex-wrap items-end gap-4">
        <Field label="Label" name="label" required maxLength={80} />
        <button type="submit" className="button" disabled={create.isPending}>
          Make a token
        </button>
      </form>
      <Fault error={create.error ?? revoke.error ?? error} />
      <Table
        caption="Agent tokens"
        head={["Label", "Token", "Last used", "Made", "Action"]}
        rows={
          data?.map((token) => [
            token.label,
            <code key="prefix">{token.prefix}…</code>,
            when(token.last_used_at),
            when(token.created_at),
            <Revoke
              key="revoke"
              label={token.label}
              revokedAt={token.revoked_at}
              busy={revoke.isPending}
              onRevoke={() => revoke.mutate(token.id)}
            />,
          ]) ?? null
        }
        empty="No tokens yet."
      />
    </>
  );
}
