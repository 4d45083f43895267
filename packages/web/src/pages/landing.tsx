import type { MarketModel } from "@gfe/sdk";
import { Link } from "@tanstack/react-router";
import { useLive } from "../live.tsx";
import { Command, Figure, Page, Table } from "../parts/parts.tsx";
import { priceText } from "../parts/price-text.ts";

export function Landing() {
  const { market } = useLive();
  const stats = market?.stats;
  const numbers: [string, number | undefined][] = [
    ["nodes online", stats?.nodes_online],
    ["models", stats?.models],
    ["running now", stats?.running],
    ["tokens a second", stats?.tokens_per_second],
    ["jobs done", stats?.jobs_completed],
    ["tokens made", stats?.tokens_total],
  ];
  return (
    <Page
      title="Inference from GPUs of people like you"
      intro="Point any OpenAI client here and pay for what you get. Or share an idle GPU and earn. Every credit is in a double-entry ledger."
    >
      <dl className="grid grid-cols-2 gap-3 sm:grid-cols-3">
        {numbers.map(([name, value]) => (
          <Figure key={name} name={name} value={value?.toLocaleString() ?? "–"} />
        ))}
      </dl>
      <h2 className="text-xl font-semibold">On offer now</h2>
      <Table
        caption="Models on offer"
        head={["Model", "Nodes", "Free slots", "Context", "Reputation", "Price from"]}
        rows={market?.models.map(cells) ?? null}
        empty="No node is online yet. Be the first: the command is below."
      />
      <HowTo model={market?.models[0]?.model ?? "MODEL"} />
    </Page>
  );
}

function cells(model: MarketModel) {
  return [
    <span key="name">
      {model.model}{" "}
      {model.scripted && (
        <span className="rounded bg-overlay px-2 py-0.5 text-xs whitespace-nowrap text-warn">
          ⚠ scripted, no model
        </span>
      )}
    </span>,
    model.nodes,
    `${model.free_slots} of ${model.slots}`,
    model.context_length_max.toLocaleString(),
    model.reputation === null ? (
      <span key="reputation" className="text-text-3">
        new
      </span>
    ) : (
      `${model.reputation} of 100`
    ),
    priceText(model.price_from),
  ];
}

function HowTo({ model }: { model: string }) {
  const { origin } = window.location;
  const body = JSON.stringify({ model, messages: [{ role: "user", content: "Hello" }] });
  return (
    <div className="grid gap-4 sm:grid-cols-2">
      <div className="card space-y-3">
        <h2 className="text-lg font-semibold">Share a GPU</h2>
        <p className="text-text-2">
          Beside Ollama, llama.cpp, vLLM or LM Studio, or with a GGUF file and nothing else. It prints a code
          to approve in the browser. No Node there?{" "}
          <Link to="/download" className="text-text underline">
            Download one file
          </Link>
          .
        </p>
        <Command text={`npm run gfe -- up --hub ${origin}`} />
      </div>
      <div className="card space-y-3">
        <h2 className="text-lg font-semibold">Use one</h2>
        <p className="text-text-2">
          <Link to="/keys" className="text-text underline">
            Make an API key
          </Link>
          , set GFE_API_KEY to it, then point any OpenAI client at {origin}/v1, or:
        </p>
        <Command
          text={`curl ${origin}/v1/chat/completions -H "authorization: Bearer $GFE_API_KEY" -H "content-type: application/json" -d '${body.replaceAll("'", "'\\''")}'`}
        />
      </div>
    </div>
  );
}
