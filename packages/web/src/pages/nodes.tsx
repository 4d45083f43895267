import { useMutation, useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { client, queryClient, when } from "../client.ts";
import { Command, Fault, Field, Page, Secret, SignedIn, Table } from "../parts/parts.tsx";

export function Nodes() {
  return (
    <SignedIn>
      <NodeList />
    </SignedIn>
  );
}

function NodeList() {
  const { data, error } = useQuery({ queryKey: ["nodes"], queryFn: client.nodes });
  return (
    <Page title="My nodes" intro="Machines that earn for you.">
      <Fault error={error} />
      <Table
        caption="Nodes"
        head={["Node", "State", "GPU", "Models", "Running", "Last seen"]}
        rows={(data ?? []).map((node) => [
          node.name,
          node.online ? (
            <span key="state" className="text-success">
              ● {node.draining ? "draining" : "online"}
            </span>
          ) : (
            <span key="state" className="text-text-3">
              ○ offline
            </span>
          ),
          node.gpus.map((gpu) => gpu.name).join(", ") || "CPU",
          node.models.map(({ model }) => model).join(", ") || "–",
          `${node.running} of ${node.slots}`,
          when(node.last_seen_at),
        ])}
        empty="No node has joined yet."
      />
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

function Tokens() {
  const [secret, setSecret] = useState<string | null>(null);
  const { data, error } = useQuery({ queryKey: ["agent-tokens"], queryFn: client.agentTokens });
  const reload = () => queryClient.invalidateQueries({ queryKey: ["agent-tokens"] });
  const create = useMutation({
    mutationFn: client.createAgentToken,
    onSuccess: async (made) => {
      setSecret(made.secret);
      await reload();
    },
  });
  const revoke = useMutation({ mutationFn: client.revokeAgentToken, onSuccess: reload });
  const onSubmit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    create.mutate(String(new FormData(event.currentTarget).get("label")));
    event.currentTarget.reset();
  };
  return (
    <>
      <h2 className="text-xl font-semibold">Agent tokens</h2>
      {secret && <Secret secret={secret} what="token" onDone={() => setSecret(null)} />}
      <form onSubmit={onSubmit} className="card flex flex-wrap items-end gap-4">
        <Field label="Label" name="label" required maxLength={80} />
        <button type="submit" className="button-gold" disabled={create.isPending}>
          Make a token
        </button>
      </form>
      <Fault error={create.error ?? revoke.error ?? error} />
      <Table
        caption="Agent tokens"
        head={["Label", "Token", "Last used", "Made", ""]}
        rows={(data ?? []).map((token) => [
          token.label,
          <code key="prefix">{token.prefix}…</code>,
          when(token.last_used_at),
          when(token.created_at),
          token.revoked_at ? (
            <span key="revoked" className="text-text-3">
              revoked
            </span>
          ) : (
            <button
              key="revoke"
              type="button"
              className="button text-sm"
              onClick={() => revoke.mutate(token.id)}
            >
              Revoke
            </button>
          ),
        ])}
        empty="No tokens yet."
      />
    </>
  );
}
