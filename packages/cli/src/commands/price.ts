import { parsePrice } from "@gfe/agent";
import type { PricedModel, PriceList, PriceSource, PriceWire } from "@gfe/protocol";
import { createClient, formatCredits, type SdkClient } from "@gfe/sdk";
import type { Command } from "commander";
import { Failure, reporting } from "../failure.ts";

interface HubOptions {
  hub: string;
  key?: string;
  json?: boolean;
}
interface PlaceOptions extends HubOptions {
  node?: string;
  model?: string;
}
interface SetOptions extends PlaceOptions {
  request?: string;
  input?: string;
  cached?: string;
  output?: string;
  minimum?: string;
  batchDiscount?: string;
}

/** The options of `gfe price set` and what parsePrice calls them. */
const PARTS = [
  ["request", "--request", "request"],
  ["input", "--input", "in"],
  ["cached", "--cached", "cached"],
  ["output", "--output", "out"],
  ["minimum", "--minimum", "min"],
  ["batchDiscount", "--batch-discount", "batch"],
] as const satisfies readonly (readonly [keyof SetOptions, string, string])[];

const SET_BY: Record<PriceSource, string> = {
  node_model: "you, here",
  node: "you, for the node",
  model: "you, for the model",
  default: "you, for all",
  announced: "the agent",
};

export function addPrice(program: Command): void {
  const price = program
    .command("price")
    .description("what your models cost: in force from the next quote on, never for a running job")
    .addHelpText(
      "after",
      "\nThe closest price counts: of a model on a node, of a node, of a model, of all, and at last what the agent announces.\nAmounts are credits as decimals: 0.25. The key needs the scope `manage`.\nExamples:\n  gfe price\n  gfe price set --model llama3.2:1b --input 0.2 --output 0.6\n  gfe price unset --model llama3.2:1b\n",
    );

  withHub(price.command("list", { isDefault: true }))
    .description("your models, what they cost, and the market's median beside it")
    .action(reporting(async (options: HubOptions) => print(await clientOf(options).prices(), options)));

  withPlace(price.command("set"))
    .description("set a price; a part that is not named is 0, cached input costs what other input does")
    .option("--request <credits>", "for each request")
    .option("--input <credits>", "for a million input tokens")
    .option("--cached <credits>", "for a million input tokens that the engine read from its cache")
    .option("--output <credits>", "for a million output tokens")
    .option("--minimum <credits>", "the least that a complete answer costs")
    .option("--batch-discount <percent>", "off for batch work, whole percent from 0 to 90")
    .action(reporting(setPrice));

  withPlace(price.command("unset"))
    .description("take a price back; without --model and --node the one for all")
    .action(
      reporting(async (options: PlaceOptions) => {
        const client = clientOf(options);
        const place = await placeOf(client, options);
        await client.unsetPrice(place);
        if (options.json) console.log(JSON.stringify({ unset: place }));
        else console.log(`Unset the price of ${placeText(options)}.`);
      }),
    );
}

async function setPrice(options: SetOptions): Promise<void> {
  const price = priceOf(options);
  const client = clientOf(options);
  const set = await client.setPrice({ ...(await placeOf(client, options)), price });
  if (options.json) console.log(JSON.stringify(set));
  else console.log(`${placeText(options)}: ${priceText(set.price)}. In force from the next quote on.`);
}

/** The price that the options name. Throws a Failure that names the one at fault. */
export function priceOf(options: Partial<Record<(typeof PARTS)[number][0], string>>): PriceWire {
  const given = PARTS.flatMap(([name, flag, part]) => {
    const amount = options[name];
    return amount === undefined ? [] : [{ flag, part, amount }];
  });
  if (given.length === 0)
    throw new Failure(`a price needs at least one of ${PARTS.map(([, flag]) => flag).join(", ")}`);
  for (const { flag, part, amount } of given) {
    // Each on its own first, so that the message names its option; cached input alone would be dearer than none.
    const alone = parsePrice(`${part === "cached" ? "in" : part}=${amount}`);
    if (alone.type === "invalid") throw new Failure(`${flag}: ${alone.message}`);
    if (amount.includes(",")) throw new Failure(`${flag}: "${amount}" is more than one amount`);
  }
  const whole = parsePrice(given.map(({ part, amount }) => `${part}=${amount}`).join(","));
  if (whole.type === "invalid") throw new Failure(`--cached: ${whole.message}`);
  return whole.price;
}

function withHub(command: Command): Command {
  return command
    .option("--hub <url>", "the hub", process.env.GFE_HUB ?? "http://127.0.0.1:8080")
    .option("--key <key>", "API key; better in GFE_API_KEY, where no process list shows it")
    .option("--json", "one JSON object, amounts in micro-credits");
}

function withPlace(command: Command): Command {
  return withHub(command)
    .option("--model <model>", "for this model; all unless given")
    .option("--node <node>", "on this node, by name or id; all unless given");
}

function clientOf({ hub, key = process.env.GFE_API_KEY }: HubOptions): SdkClient {
  if (!key)
    throw new Failure(
      "an API key is needed: make one with the scope manage in the dashboard and set GFE_API_KEY",
    );
  return createClient({ baseUrl: hub, apiKey: key });
}

/** Where a price goes; a node's name becomes its id, and what is no name goes as it is: the hub knows. */
async function placeOf(client: SdkClient, { node, model }: PlaceOptions) {
  const place = { node_id: node ?? null, model: model ?? null };
  if (node === undefined) return place;
  const { models } = await client.prices();
  const ids = new Set(models.filter(({ node_name }) => node_name === node).map(({ node_id }) => node_id));
  if (ids.size > 1)
    throw new Failure(`several of your nodes are called ${node}: give one's id, ${[...ids].join(" or ")}`);
  return { ...place, node_id: [...ids][0] ?? node };
}

const placeText = ({ node, model }: PlaceOptions): string =>
  `${model ?? "all models"}${node === undefined ? "" : ` on ${node}`}`;

function print(list: PriceList, { json }: HubOptions): void {
  if (json) return console.log(JSON.stringify(list));
  if (list.models.length === 0) return console.log("You offer no models yet. Start with `gfe up`.");
  console.table(
    list.models.map((model: PricedModel) => ({
      model: model.model,
      node: model.online ? model.node_name : `${model.node_name} (offline)`,
      price: priceText(model.price),
      "set by": SET_BY[model.source],
      "others' median": model.market_median ? priceText(model.market_median) : "–",
    })),
  );
}

/** "0.2 in, 0.6 out a million, 0.01 a request": the parts that cost something. */
function priceText(price: PriceWire): string {
  const amount = (micro: string) => formatCredits(BigInt(micro));
  const parts = [
    ...(price.per_request === "0" ? [] : [`${amount(price.per_request)} a request`]),
    ...(price.per_million_input === "0" ? [] : [`${amount(price.per_million_input)} a million in`]),
    ...(price.per_million_cached_input === undefined
      ? []
      : [`${amount(price.per_million_cached_input)} a million cached`]),
    ...(price.per_million_output === "0" ? [] : [`${amount(price.per_million_output)} a million out`]),
    ...(price.minimum === undefined || price.minimum === "0" ? [] : [`${amount(price.minimum)} at least`]),
    ...(price.batch_discount ? [`${price.batch_discount} % off for batches`] : []),
  ];
  return parts.join(", ") || "free";
}
