/** Why a node earns, or does not: how often its models were asked for, what stood in the way, and a test request. */
import type { NodeStanding, NodeView } from "@gfe/sdk";
import { useMutation, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { client } from "../client.ts";
import { Fault, Table } from "./parts.tsx";

const STATES: Record<NodeStanding["state"], string> = {
  offline: "It is not connected. `gfe doctor` on the machine says what is missing.",
  paused: "It is paused or about to leave, and gets nothing meanwhile.",
  online: "It is connected and may be chosen.",
};

/** One entry a node, read from the hub when it is opened. */
export function Standings({ nodes }: { nodes: readonly NodeView[] }) {
  return (
    <section className="space-y-3">
      <h2 className="text-xl font-semibold">Why does it earn, or not?</h2>
      <p className="text-text-2">
        How often a model was asked for, how often this machine got it, and what stood in the way. Reasons are
        estimates where much is asked.
      </p>
      {nodes.map((node) => (
        <OfNode key={node.id} node={node} />
      ))}
    </section>
  );
}

function OfNode({ node }: { node: NodeView }) {
  const [open, setOpen] = useState(false);
  const { data, error } = useQuery({
    queryKey: ["nodes", node.id, "standing"],
    queryFn: () => client.nodeStanding(node.id),
    enabled: open,
  });
  return (
    <details className="card" onToggle={({ currentTarget }) => setOpen(currentTarget.open)}>
      <summary className="cursor-pointer">{node.name}: why it is chosen, or not</summary>
      {open && (
        <div className="mt-4 space-y-6">
          <Fault error={error} />
          {!data && !error && <p>Loading …</p>}
          {data && <p className="text-text-2">{STATES[data.state]}</p>}
          {data?.models.length === 0 && <p className="text-text-2">It has offered no model yet.</p>}
          {data?.models.map((model) => (
            <OfModel key={model.model} nodeId={node.id} model={model} />
          ))}
        </div>
      )}
    </details>
  );
}

function OfModel({ nodeId, model }: { nodeId: string; model: NodeStanding["models"][number] }) {
  const { asked, chosen, reasons } = model;
  return (
    <article className="space-y-3" aria-label={`Requests for ${model.model}`}>
      <h3 className="font-semibold break-all">
        {model.model}: {chosen.day} of {asked.day} requests in the last day
      </h3>
      <Table
        caption={`Why ${model.model} was not chosen`}
        head={["Reason", "Last hour", "Day", "Week", "What would change it"]}
        rows={reasons.map(({ words, cure, counts }) => [
          words,
          counts.hour,
          counts.day,
          counts.week,
          cure || "–",
        ])}
        empty="Nothing stood in its way."
      />
      <Canary nodeId={nodeId} model={model.model} />
    </article>
  );
}

function Canary({ nodeId, model }: { nodeId: string; model: string }) {
  const test = useMutation({ mutationFn: () => client.askCanary(nodeId, model) });
  const { data } = test;
  return (
    <div className="space-y-2">
      <button type="button" className="button" disabled={test.isPending} onClick={() => test.mutate()}>
        {test.isPending ? "Asking …" : `Send ${model} a test request`}
      </button>
      <Fault error={test.error} />
      <p aria-live="polite">
        {data && (
          <span className={data.passed ? "text-success" : "text-danger"}>
            {data.passed ? "✓" : "✕"} {data.words}: first token{" "}
            {data.first_token_ms === null ? "never" : `after ${Math.round(data.first_token_ms)} ms`},{" "}
            {data.output_tokens} tokens in {Math.round(data.total_ms)} ms. {data.cure}
          </span>
        )}
      </p>
    </div>
  );
}
