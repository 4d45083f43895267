/**
 * Several engines may list a model of the same name. Where they tell that it is the very same, it is one choice with the
 * slots of all; where they don't, each is a choice of its own: the first engine's has the plain name, another's has the
 * kind of its engine behind it, `llama3.2:1b@llama.cpp`.
 *
 * The very same are models whose digests are both told and equal; where neither tells one, whose quantisation is told and
 * equal, and whose sizes do not differ. An engine's word against another's silence is no agreement: receipts name digests.
 */
import type { DiscoveredModel, Engine } from "./engine.ts";

/** Where a choice may run. */
export interface Seat {
  engine: Engine;
  /** What the engine calls it. */
  model: string;
  digest: string | null;
  slots: number;
}

export interface Choice {
  /** What consumers ask for. */
  name: string;
  /** Of all its seats together, with the name that the engines have for it: what each can do, the shortest context, the sum of the slots. */
  facts: DiscoveredModel;
  seats: [Seat, ...Seat[]];
}

type Listed = { engine: Engine; model: DiscoveredModel };

/** Pure. Of the engines in their order. */
export function choicesOf(
  engines: readonly { engine: Engine; models: readonly DiscoveredModel[] }[],
): Choice[] {
  const groups: Listed[][] = [];
  for (const { engine, models } of engines) {
    const names = new Set<string>();
    for (const model of models) {
      if (names.has(model.name)) continue; // an engine that lists a name twice means one model
      names.add(model.name);
      const group = groups.find((known) => known.every((one) => isSame(one.model, model)));
      if (group) group.push({ engine, model });
      else groups.push([{ engine, model }]);
    }
  }
  const taken = new Set<string>();
  return groups.map((group) => {
    const name = freeName(group[0]!, taken);
    taken.add(name);
    return choiceOf(name, group);
  });
}

function isSame(a: DiscoveredModel, b: DiscoveredModel): boolean {
  if (a.name !== b.name || !a.capabilities.some((one) => b.capabilities.includes(one))) return false;
  if (a.digest !== undefined || b.digest !== undefined) return a.digest === b.digest;
  if (a.quantisation === undefined || a.quantisation !== b.quantisation) return false;
  return a.parameters === undefined || b.parameters === undefined || a.parameters === b.parameters;
}

function freeName({ engine, model }: Listed, taken: ReadonlySet<string>): string {
  if (!taken.has(model.name)) return model.name;
  const name = `${model.name}@${engine.kind}`;
  let free = name;
  for (let number = 2; taken.has(free); number++) free = `${name}-${number}`;
  return free;
}

function choiceOf(name: string, group: readonly Listed[]): Choice {
  const models = group.map(({ model }) => model);
  const seats = group.map(({ engine, model }) => ({
    engine,
    model: model.name,
    digest: model.digest ?? null,
    slots: model.slots,
  }));
  return { name, facts: together(models), seats: seats as [Seat, ...Seat[]] };
}

/** What may be promised of an attempt that any of them may get. */
function together(models: readonly DiscoveredModel[]): DiscoveredModel {
  const [first] = models;
  return {
    ...first!,
    capabilities: first!.capabilities.filter((one) =>
      models.every((model) => model.capabilities.includes(one)),
    ),
    contextLength: Math.min(...models.map(({ contextLength }) => contextLength)),
    slots: models.reduce((sum, { slots }) => sum + slots, 0),
  };
}

/** Who sits where: an attempt takes the seat with the most room. */
export interface Seating {
  /** Undefined where every slot is taken. */
  pick(seats: readonly Seat[]): Seat | undefined;
  take(seat: Seat): void;
  leave(seat: Seat): void;
}

/** Counted by engine and model, for seats are made anew each time the engines are looked at. */
export function createSeating(): Seating {
  const taken = new Map<Engine, Map<string, number>>();
  const at = ({ engine, model }: Seat) => taken.get(engine)?.get(model) ?? 0;
  const put = ({ engine, model }: Seat, count: number) => {
    const models = taken.get(engine) ?? new Map<string, number>();
    if (count > 0) taken.set(engine, models.set(model, count));
    else if (models.delete(model) && models.size === 0) taken.delete(engine);
  };
  const room = (seat: Seat) => seat.slots - at(seat);
  return {
    pick(seats) {
      const best = seats.toSorted((a, b) => room(b) - room(a))[0];
      return best && room(best) > 0 ? best : undefined;
    },
    take: (seat) => put(seat, at(seat) + 1),
    leave: (seat) => put(seat, at(seat) - 1),
  };
}
