/** `npm run sim`: simulations of the marketplace. Without a name, the one on a virtual clock. */
const USAGE = `Usage: npm run sim -- [--seed N] [--jobs N] [--seeds COUNT] [--trace] [--json]

  Hub, ledger and nodes on a virtual clock, audited after every step; the same seed makes the same events.
  See docs/simulation.md.

  --seed N       decides everything; the first of many with --seeds (drawn and printed if not given)
  --jobs N       requests to send in each simulation (40)
  --seeds COUNT  so many simulations, one after another (1)
  --trace        prints every line of the log
  --json         one JSON object for each seed, a line each, and one of all at the end

npm run sim -- day --help: 24 hours of a provider, in which all that can fail does.
npm run sim -- live --help: the same in real time, on a real database.
npm run sim -- chaos --help: real processes that are killed, frozen and cut off.
npm run sim -- market --help: matching on a virtual clock, beside simpler policies.`;

/** Resolves with the exit status. */
async function main([kind, ...rest]: readonly string[]): Promise<number> {
  switch (kind) {
    case "market":
      return (await import("./market/main.ts")).main(rest);
    case "day":
      return (await import("./virtual/day-main.ts")).main(rest);
    case "chaos":
      return (await import("./faults/command.ts")).chaosMain(rest);
    case "live":
      return (await import("./live.ts")).main(rest);
    default:
      return (await import("./virtual/main.ts")).main(process.argv.slice(2), USAGE);
  }
}

process.exit(await main(process.argv.slice(2)));
