import { type PricedModel, type PriceSource, type PriceWire, parseCredits, type SetPrice } from "@gfe/sdk";
import { useMutation, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type FormEvent, useId } from "react";
import { client, queryClient, when } from "../client.ts";
import { SignedIn } from "../parts/account.tsx";
import { Fault, Field, Page, Table } from "../parts/parts.tsx";
import { priceText } from "../parts/price-text.ts";

const SET_BY: Record<PriceSource, string> = {
  node_model: "you, for it on this node",
  node: "you, for the node",
  model: "you, for the model",
  default: "you, for all",
  announced: "the node itself",
};

/** What is asked of a price, by the part of it: amounts in credits, the discount in percent. */
const PARTS = [
  ["per_request", "A request"],
  ["per_million_input", "Million tokens in"],
  ["per_million_output", "Million tokens out"],
  ["per_million_cached_input", "Million tokens in, cached"],
  ["minimum", "At least, an answer"],
] as const satisfies readonly (readonly [keyof PriceWire, string])[];
const DISCOUNT_MAX = 90;

export function Prices() {
  return (
    <SignedIn title="Prices">
      <PriceList />
    </SignedIn>
  );
}

function PriceList() {
  const { data, error } = useQuery({ queryKey: ["prices"], queryFn: client.prices });
  const unset = useMutation({ mutationFn: client.unsetPrice, onSuccess: reload });
  const nodes = new Map(data?.models.map(({ node_id, node_name }) => [node_id, node_name]));
  return (
    <Page
      title="Prices"
      intro="What your models cost, in credits. A change counts from the next request on, never for one that runs."
    >
      <Fault error={error ?? unset.error} />
      <Table
        caption="Your models"
        head={["Model", "Node", "Price", "Set by", "Others ask"]}
        rows={data?.models.map(modelCells) ?? null}
        empty={
          <>
            You offer no models yet: <Link to="/nodes">add a node</Link>.
          </>
        }
      />
      <NewPrice models={data?.models ?? []} nodes={nodes} />
      <h2 className="text-xl font-semibold">Prices that you set</h2>
      <Table
        caption="Prices that you set"
        head={["For", "Price", "Since", "Action"]}
        rows={
          data?.prices.map((one) => [
            placeText(one, nodes),
            priceText(one.price),
            when(one.updated_at),
            <button
              key="unset"
              type="button"
              className="button text-sm"
              aria-label={`Unset the price of ${placeText(one, nodes)}`}
              disabled={unset.isPending}
              onClick={() => unset.mutate({ node_id: one.node_id, model: one.model })}
            >
              Unset
            </button>,
          ]) ?? null
        }
        empty="None: your nodes ask what they announce."
      />
    </Page>
  );
}

const reload = () => queryClient.invalidateQueries({ queryKey: ["prices"] });

const modelCells = (one: PricedModel) => [
  one.model,
  one.online ? one.node_name : `${one.node_name} (offline)`,
  priceText(one.price),
  SET_BY[one.source],
  one.market_median ? priceText(one.market_median) : "–",
];

function placeText({ node_id, model }: Pick<SetPrice, "node_id" | "model">, nodes: Map<string, string>) {
  const node = node_id === null ? "" : ` on ${nodes.get(node_id) ?? node_id}`;
  return `${model ?? "all models"}${node}`;
}

interface NewPriceProps {
  models: PricedModel[];
  nodes: Map<string, string>;
}

function NewPrice({ models, nodes }: NewPriceProps) {
  const set = useMutation({
    mutationFn: async (form: HTMLFormElement) => ({ form, made: await client.setPrice(readForm(form)) }),
    onSuccess: async ({ form }) => {
      form.reset();
      await reload();
    },
  });
  const onSubmit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    set.mutate(event.currentTarget);
  };
  return (
    <form onSubmit={onSubmit} className="card space-y-4">
      <h2 className="text-lg font-semibold">Set a price</h2>
      <div className="grid gap-4 sm:grid-cols-2">
        <Choice label="Model" name="model" all="All models" options={modelOptions(models)} />
        <Choice label="Node" name="node" all="All nodes" options={[...nodes]} />
      </div>
      <div className="grid gap-4 sm:grid-cols-3">
        {PARTS.map(([part, label]) => (
          <Field key={part} label={label} name={part} inputMode="decimal" maxLength={20} />
        ))}
        <Field label="Percent off for batches" name="batch_discount" inputMode="numeric" maxLength={2} />
      </div>
      <p className="text-sm text-text-3">
        In credits. What is left empty is free; cached input then costs what other input does.
      </p>
      <Fault error={set.error} />
      <button type="submit" className="button-gold" disabled={set.isPending}>
        Set the price
      </button>
    </form>
  );
}

const modelOptions = (models: PricedModel[]): [string, string][] =>
  [...new Set(models.map(({ model }) => model))].sort().map((model) => [model, model]);

interface ChoiceProps {
  label: string;
  name: string;
  all: string;
  options: [value: string, text: string][];
}

function Choice({ label, name, all, options }: ChoiceProps) {
  const id = useId();
  return (
    <div className="space-y-1">
      <label htmlFor={id} className="text-sm text-text-2">
        {label}
      </label>
      <select id={id} name={name} className="field">
        <option value="">{all}</option>
        {options.map(([value, text]) => (
          <option key={value} value={value}>
            {text}
          </option>
        ))}
      </select>
    </div>
  );
}

/** Throws an Error that says which field is wrong. */
function readForm(form: HTMLFormElement) {
  const fields = new FormData(form);
  const text = (name: string) => String(fields.get(name)).trim();
  const price: PriceWire = { per_request: "0", per_million_input: "0", per_million_output: "0" };
  for (const [part, label] of PARTS) {
    if (text(part) === "") continue;
    const micro = parseCredits(text(part));
    if (micro === null || micro < 0n)
      throw new Error(`${label}: write an amount of credits such as 0.5 or 2`);
    price[part] = micro.toString();
  }
  const discount = text("batch_discount");
  if (discount !== "") {
    if (!/^\d+$/.test(discount) || Number(discount) > DISCOUNT_MAX)
      throw new Error(`Percent off for batches: write a whole number from 0 to ${DISCOUNT_MAX}`);
    price.batch_discount = Number(discount);
  }
  if (PARTS.every(([part]) => text(part) === "") && discount === "")
    throw new Error("Fill in at least one part of the price; write 0 to ask nothing");
  return { node_id: text("node") || null, model: text("model") || null, price };
}
