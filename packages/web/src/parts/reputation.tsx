/** What a node is thought of, model by model: the score, what it is made of, and what would raise it. */
import type { NodeReputation, NodeView } from "@gfe/sdk";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { client } from "../client.ts";
import { Fault, Table } from "./parts.tsx";

type ModelReputation = NodeReputation["models"][number];
type Part = ModelReputation["parts"][number];

const PARTS: Record<Part["name"], string> = {
  success: "Jobs done as asked",
  uptime: "Time connected",
  speed: "Speed against promise",
  disputes: "Disputes",
  audits: "Checks passed",
};

/** One entry a node, read from the hub when it is opened. */
export function Reputations({ nodes }: { nodes: readonly NodeView[] }) {
  return (
    <section className="space-y-3">
      <h2 className="text-xl font-semibold">Reputation</h2>
      <p className="text-text-2">
        From 0 to 100 for each model. The market prefers higher scores; what happened counts half as much
        every 7 days.
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
    queryKey: ["nodes", node.id, "reputation"],
    queryFn: () => client.nodeReputation(node.id),
    enabled: open,
  });
  return (
    <details className="card" onToggle={({ currentTarget }) => setOpen(currentTarget.open)}>
      <summary className="cursor-pointer">{node.name}: what its reputation is made of</summary>
      {open && (
        <div className="mt-4 space-y-6">
          <Fault error={error} />
          {!data && !error && <p>Loading …</p>}
          {data?.models.length === 0 && <p className="text-text-2">It has offered no model yet.</p>}
          {data?.models.map((model) => (
            <OfModel key={model.model} model={model} />
          ))}
        </div>
      )}
    </details>
  );
}

function OfModel({ model }: { model: ModelReputation }) {
  const name = model.names.join(", ") || model.model;
  return (
    <article className="space-y-3" aria-label={`Reputation for ${name}`}>
      <h3 className="font-semibold break-all">
        {name}: {Math.round(model.score)} of 100{" "}
        {model.newcomer && <span className="font-normal text-text-2">(new: everybody begins at 64)</span>}
      </h3>
      <Table
        caption={`Parts of the reputation for ${name}`}
        head={["Part", "Value", "How it counts", "Made of"]}
        rows={model.parts.map((part) => [
          PARTS[part.name],
          `${Math.round(100 * part.value)} %`,
          part.multiplies ? "multiplies the sum" : `${Math.round(100 * part.weight)} % of the sum`,
          part.evidence,
        ])}
        empty="Nothing is known yet."
      />
      {model.reasons.length > 0 && (
        <p className="text-text-2">What went wrong: {model.reasons.map(({ words }) => words).join("; ")}.</p>
      )}
      {model.raise.length === 0 ? (
        <p className="text-success">✓ As good as it gets.</p>
      ) : (
        <>
          <h4 className="text-sm text-text-2">What would raise it</h4>
          <ul className="list-disc space-y-1 pl-5">
            {model.raise.map((words) => (
              <li key={words}>{words}</li>
            ))}
          </ul>
        </>
      )}
    </article>
  );
}
