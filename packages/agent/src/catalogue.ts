/**
 * What this node offers: the models of its engines, looked at again and again. An engine that dies takes its models
 * with it; one that comes back, or a new model, is offered at the next look. A model that is not fit is kept back.
 */
import { type ModelOffer, modelOfferSchema, OFFER_LIMITS, type PriceWire } from "@gfe/protocol";
import { type Choice, choicesOf, type Seat } from "./engines/choices.ts";
import { type DiscoveredModel, type Engine, EngineGone } from "./engines/engine.ts";
import type { HealthKeeper } from "./engines/health-keeper.ts";
import { limited, type SlotLimits } from "./engines/slot-limits.ts";
import type { Log } from "./host.ts";
import { AGENT_LIMITS } from "./limits.ts";
import type { Placement } from "./runner.ts";

/** One price for all models, or one for some and another for the rest. */
export interface PriceList {
  default: PriceWire;
  byModel?: Readonly<Record<string, PriceWire>>;
}

export interface EngineState {
  engine: Engine;
  /** Empty while it does not answer. */
  models: DiscoveredModel[];
  error: string | null;
  /** Looks in a row that it failed. */
  failures: number;
}

export interface Catalogue {
  readonly offers: readonly ModelOffer[];
  readonly engines: readonly EngineState[];
  place(model: string): Placement | undefined;
  /** Looks at every engine; true when what is offered has changed. */
  refresh(signal?: AbortSignal): Promise<boolean>;
  /** Puts the offers together anew after a change of health or limits; true when they changed. */
  compose(): boolean;
  /** Withdraws an engine's models until it answers again; true when there were any. */
  withdraw(engine: Engine): boolean;
  add(engines: readonly Engine[]): void;
  /** Takes an engine out for good. */
  remove(engine: Engine): void;
}

export interface CatalogueOptions {
  engines: readonly Engine[];
  prices: PriceList;
  log: Log;
  /** Which models to offer; all unless given. */
  offers?: (model: string) => boolean;
  /** Other names for models: alias to model. */
  aliases?: ReadonlyMap<string, string>;
  /** Which models are fit; all unless given. */
  health?: Pick<HealthKeeper, "isOffered" | "hope">;
  slotLimits?: () => SlotLimits;
}

export function createCatalogue(options: CatalogueOptions): Catalogue {
  const { engines, prices, log, health, offers: wanted, aliases = new Map<string, string>() } = options;
  const watched: EngineState[] = engines.map(watch);
  let offers: ModelOffer[] = [];
  let placements = new Map<string, Placement>();
  let spelled = "[]";
  /** What the engines told when the offers were last put together. */
  let told = "";
  const tellings = () => JSON.stringify(watched.map(({ engine, models }) => [engine.label, models]));

  async function look(state: EngineState, signal?: AbortSignal): Promise<void> {
    try {
      const before = new Set(state.models.map(({ name }) => name));
      state.models = await state.engine.models(signal);
      state.failures = 0;
      state.error = null;
      for (const { name } of state.models) if (!before.has(name)) health?.hope(state.engine, name);
    } catch (error) {
      if (signal?.aborted) return;
      state.error = error instanceof Error ? error.message : String(error);
      state.failures++;
      // An engine under load may miss one look; one that nothing listens for is gone.
      if (error instanceof EngineGone || state.failures >= AGENT_LIMITS.refreshFailures) state.models = [];
    }
  }

  function compose(): boolean {
    told = tellings();
    const limits = options.slotLimits?.() ?? new Map();
    const choices = choicesOf(
      watched.map(({ engine, models }) => ({
        engine,
        models: models.map((model) => limited(limits, engine, model)),
      })),
    );
    const next: ModelOffer[] = [];
    const places = new Map<string, Placement>();
    for (const choice of choices) {
      if (next.length >= OFFER_LIMITS.models) break;
      if (wanted && !wanted(choice.name)) continue;
      const fit = choice.seats.filter(({ engine, model }) => health?.isOffered(engine, model) ?? true);
      const [first] = fit;
      if (!first) continue;
      const offer = modelOfferSchema.safeParse(offerOf(choice, fit, prices, namesFor(choice.name, aliases)));
      if (!offer.success) {
        const { path, message } = offer.error.issues[0]!;
        log.warn(
          { engine: first.engine.label, field: path.join("."), problem: message },
          "a model can't be offered",
        );
        continue;
      }
      next.push(offer.data);
      const { slots, capabilities } = offer.data;
      places.set(choice.name, { seats: fit, slots, continues: capabilities.includes("continuation") });
    }
    const text = JSON.stringify(next);
    const changed = text !== spelled;
    if (changed) {
      for (const [alias, model] of aliases)
        if (!places.has(model))
          log.warn({ alias, model }, `the alias ${alias} names ${model}, which is not offered`);
    }
    offers = next;
    placements = places;
    spelled = text;
    return changed;
  }

  return {
    get offers() {
      return offers;
    },
    engines: watched,
    place: (model) => placements.get(model),
    async refresh(signal) {
      await Promise.all(watched.map((state) => look(state, signal)));
      return tellings() === told ? false : compose();
    },
    compose,
    withdraw(engine) {
      const state = watched.find((candidate) => candidate.engine === engine);
      if (!state || state.models.length === 0) return false;
      state.models = [];
      state.error = "it does not answer";
      return compose();
    },
    add(more) {
      watched.push(...more.map(watch));
    },
    remove(engine) {
      const at = watched.findIndex((candidate) => candidate.engine === engine);
      if (at >= 0) watched.splice(at, 1);
    },
  };
}

const watch = (engine: Engine): EngineState => ({ engine, models: [], error: null, failures: 0 });

const namesFor = (model: string, aliases: ReadonlyMap<string, string>): string[] =>
  [...aliases].flatMap(([alias, of]) => (of === model && alias !== model ? [alias] : []));

function offerOf({ name, facts }: Choice, fit: readonly Seat[], prices: PriceList, aliases: string[]) {
  return {
    model: name,
    digest: facts.digest,
    quantisation: facts.quantisation,
    parameters: facts.parameters,
    context_length: facts.contextLength,
    capabilities: facts.capabilities,
    slots: Math.min(
      fit.reduce((sum, { slots }) => sum + slots, 0),
      OFFER_LIMITS.slotsPerModel,
    ),
    price: prices.byModel?.[name] ?? prices.byModel?.[facts.name] ?? prices.default,
    engine: fit[0]!.engine.kind,
    ...(aliases.length > 0 ? { aliases } : {}),
  };
}
