/** The first credit of a provider: earned by a right answer, once, whoever tries what. */
import { createSigner, generateKeyPair, type ModelOffer } from "@gfe/protocol";
import { afterEach, expect, test } from "vitest";
import { RogueAgent, type RogueOptions } from "./rogue-agent.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

const CREDIT = 1_000_000n;
let world: World;
const agents: RogueAgent[] = [];
afterEach(async () => {
  for (const agent of agents.splice(0)) agent.die();
  await world.end();
});
const start = async (env: Record<string, string> = {}) => {
  world = await startWorld({ GFE_CANARY_INTERVAL: "86400", GFE_SIGNUP_CREDITS: "0", ...env });
};

async function join(
  person: Person,
  more: Partial<RogueOptions> = {},
  engine = "ollama",
): Promise<RogueAgent> {
  const price = { per_request: "1000000", per_million_input: "0", per_million_output: "0" };
  const model = {
    model: "m",
    context_length: 2048,
    capabilities: ["chat"],
    slots: 2,
    price,
    engine,
  } as ModelOffer;
  const announcement = { name: "node", gpus: [], slots: 2, models: [model] };
  const agent = await RogueAgent.join({
    ...{ hubUrl: world.hub.url, token: person.agentToken, announcement },
    onStart(start, self) {
      self.text(start.channel, "Five and a bit");
      void self.done(start, 4);
    },
    ...more,
  });
  agents.push(agent);
  return agent;
}
const earned = (person: Person) =>
  until(async () => (await world.available(person)) === CREDIT, "it is earned");
const entries = async (person: Person) =>
  (await world.call("GET", "/api/v1/ledger", { as: person })).body.entries.map(
    ({ code, amount_micro }: { code: string; amount_micro: string }) => [code, amount_micro],
  );
const granted = async () =>
  (await world.pool.query("SELECT node_key, paid FROM first_credits ORDER BY granted_at")).rows;

test("comes from the treasury once its node has answered, and shows in the provider's ledger", async () => {
  await start();
  const provider = await world.person("provider");
  await join(provider);
  await earned(provider);
  expect(await entries(provider)).toEqual([["first_credit", `${CREDIT}`]]);
  expect((await world.ledger.balance("hub:treasury"))?.posted).toBe(-CREDIT);
  expect(await granted()).toMatchObject([{ paid: true }]);
});

test("is given once to an account with many nodes, and once to a node of many accounts", async () => {
  await start();
  const [one, two] = [await world.person("one"), await world.person("two")];
  const signer = await createSigner(await generateKeyPair());
  const first = await join(one, { signer });
  await earned(one);
  await Promise.all(Array.from({ length: 5 }, () => join(one)));
  await first.leave();
  await world.call("DELETE", `/api/v1/nodes/${first.nodeId}`, { session: one });
  await join(two, { signer }).catch(() => null);
  const honest = await join(two);
  await earned(two);
  expect((await granted()).map(({ node_key }) => node_key)).toEqual([
    signer.publicKey,
    honest.signer.publicKey,
  ]);
  expect(await world.available(one)).toBe(CREDIT);
});

test("is not for a node that answers wrongly, says nothing, or runs no model", async () => {
  await start();
  const people = await Promise.all(["liar", "mute", "scripted", "honest"].map((name) => world.person(name)));
  const [liar, mute, scripted, honest] = people as [Person, Person, Person, Person];
  const lies = await join(liar, {
    onStart(start, self) {
      self.text(start.channel, "x");
      void self.done(start, 4000);
    },
  });
  const silent = await join(mute, { onStart: (start, self) => void self.done(start, 0) });
  await join(scripted, {}, "scripted");
  await until(() => lies.starts.length > 0 && silent.starts.length > 0, "they were asked");
  await join(honest);
  await earned(honest);
  for (const person of [liar, mute, scripted]) expect(await world.available(person)).toBe(0n);
});

test("that was granted when its hub died is paid by the next, once", async () => {
  await start();
  const provider = await world.person("provider");
  await world.pool.query(
    "INSERT INTO first_credits (node_key, user_id, amount_micro) VALUES ('key', $1, $2)",
    [...[provider.userId, CREDIT.toString()]],
  );
  await world.restart();
  await earned(provider);
  await until(async () => (await granted())[0]?.paid === true, "it is written down");
});

test("an operator may give none", async () => {
  await start({ GFE_FIRST_CREDIT: "0" });
  const provider = await world.person("provider");
  const agent = await join(provider);
  const canary = { as: provider, body: { model: "m" } };
  expect((await world.call("POST", `/api/v1/nodes/${agent.nodeId}/canary`, canary)).body.passed).toBe(true);
  expect(await world.available(provider)).toBe(0n);
});
