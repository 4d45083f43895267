/**
 * What this node offers: the models of its engines, looked at again and again. An engine that dies takes its models
 * with it; one that comes back, or a new model, is offered at the next look.
 */
import { type ModelOffer, modelOfferSchema, OFFER_LIMITS, type PriceWire } from "@gfe/protocol";
import { type DiscoveredModel, type Engine, EngineGone } from "./engines/engine.ts";
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
}

export interface Catalogue {
  readonly offers: readonly ModelOffer[];
  readonly engines: readonly EngineState[];
  place(model: string): Placement | undefined;
  /** Looks at every engine; true when what is offered has changed. */
  refresh(signal?: AbortSignal): Promise<boolean>;
  /** Withdraws an engine's models until it answers again; true when there were any. */
  withdraw(engine: Engine): boolean;
  add(engines: readonly Engine[]): void;
}

export interface CatalogueOptions {
  engines: readonly Engine[];
  prices: PriceList;
  log: Log;
  /** Which models to offer; all unless given. */
  offers?: (model: string) => boolean;
  /** Other names for models: alias to model. */
  aliases?: ReadonlyMap<string, string>;
}

type Watched = EngineState & { failures: number };

export function createCatalogue(options: CatalogueOptions): Catalogue {
  const { engines, prices, log, offers: wanted, aliases = new Map<string, string>() } = options;
  const watched: Watched[] = engines.map(watch);
  let offers: ModelOffer[] = [];
  let placements = new Map<string, Placement>();
  let spelled = "[]";

  async function look(state: Watched, signal?: AbortSignal): Promise<void> {
    try {
      state.models = await state.engine.models(signal);
      state.failures = 0;
      state.error = null;
    } catch (error) {
      if (signal?.aborted) return;
      state.error = error instanceof Error ? error.message : String(error);
      state.failures++;
      // An engine under load may miss one look; one that nothing listens for is gone.
      if (error instanceof EngineGone || state.failures >= AGENT_LIMITS.refreshFailures) state.models = [];
    }
  }

  /** Puts the offers together anew; true when they changed. */
  function compose(): boolean {
    const next: ModelOffer[] = [];
    const places = new Map<string, Placement>();
    for (const { engine, models } of watched) {
      for (const model of models) {
        if (places.has(model.name) || next.length >= OFFER_LIMITS.models) continue; // the first engine has it
        if (wanted && !wanted(model.name)) continue;
        const offer = modelOfferSchema.safeParse(
          offerOf(model, engine, prices, namesFor(model.name, aliases)),
        );
        if (!offer.success) {
          const { path, message } = offer.error.issues[0]!;
          log.warn(
            { engine: engine.label, field: path.join("."), problem: message },
            "a model can't be offered",
          );
          continue;
        }
        next.push(offer.data);
        const { digest = null, slots, capabilities } = offer.data;
        places.set(model.name, { engine, digest, slots, continues: capabilities.includes("continuation") });
      }
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
      return compose();
    },
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
  };
}

const watch = (engine: Engine): Watched => ({ engine, models: [], error: null, failures: 0 });

const namesFor = (model: string, aliases: ReadonlyMap<string, string>): string[] =>
  [...aliases].flatMap(([alias, of]) => (of === model && alias !== model ? [alias] : []));

function offerOf(model: DiscoveredModel, engine: Engine, prices: PriceList, aliases: string[]) {
  return {
    model: model.name,
    digest: model.digest,
    quantisation: model.quantisation,
    parameters: model.parameters,
    context_length: model.contextLength,
    capabilities: model.capabilities,
    slots: model.slots,
    price: prices.byModel?.[model.name] ?? prices.default,
    engine: engine.kind,
    ...(aliases.length > 0 ? { aliases } : {}),
  };
}
