/** Who may import whom; ARCHITECTURE.md says why. */
const only = (name, from, allowed) => ({
  name,
  severity: "error",
  from: { path: `^packages/${from}/src` },
  to: { path: "^packages/", pathNot: `^packages/(${[from, ...allowed].join("|")})/` },
});
/** Inside the hub: a room may not reach into those named. */
const closed = (name, from, to) => ({
  name,
  severity: "error",
  from: { path: `^packages/hub/src/(${from})/`, pathNot: "\\.test\\.ts$" },
  to: { path: `^packages/hub/src/(${to})(/|\\.ts$)` },
});

export default {
  forbidden: [
    {
      name: "no-cycles",
      severity: "error",
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
    },
    {
      name: "resolvable",
      severity: "error",
      from: { pathNot: "^packages/web" },
      to: { couldNotResolve: true },
    },
    only("protocol-stands-alone", "protocol", []),
    only("ledger-stands-alone", "ledger", []),
    only("tracing-stands-alone", "tracing", []),
    only("agent-knows-the-protocol", "agent", ["protocol", "tracing"]),
    only("sdk-knows-the-protocol", "sdk", ["protocol"]),
    only("web-speaks-through-the-sdk", "web", ["sdk"]),
    only("hub-knows-protocol-and-ledger", "hub", ["protocol", "ledger", "tracing"]),
    {
      name: "packages-are-entered-by-their-index",
      severity: "error",
      from: { path: "^packages/([^/]+)/" },
      to: {
        path: "^packages/([^/]+)/src/",
        pathNot: ["^packages/$1/", "^packages/[^/]+/src/(index|testing)\\.ts$", "^packages/hub/src/testing/"],
      },
    },
    {
      name: "only-billing-touches-the-ledger",
      severity: "error",
      from: {
        path: "^packages/hub/src/",
        pathNot: [
          "^packages/hub/src/billing/",
          "^packages/hub/src/hub\\.ts$",
          "^packages/hub/src/db/migrate\\.ts$",
          "\\.test\\.ts$",
        ],
      },
      to: { path: "^packages/ledger/", dependencyTypesNot: ["type-only"] },
    },
    closed("jobs-know-no-edge", "jobs", "http|link|live|accounts|db|fabric|hub"),
    closed("fabric-knows-no-edge", "fabric", "http|link|live|accounts|db|billing|trust|hub"),
    closed("market-is-pure", "market", "http|link|live|accounts|db|jobs|billing|trust|fabric|hub"),
    closed("billing-knows-no-market", "billing", "http|link|live|accounts|db|jobs|market|trust|hub"),
    closed("trust-knows-no-edge", "trust", "http|link|live|accounts|db|jobs|hub"),
    closed("spans-know-no-edge", "tracing", "http|link|live|accounts|db|fabric|hub"),
    closed("prices-know-no-edge", "prices", "http|link|live|accounts|jobs|billing|trust|hub"),
    closed("webhooks-stand-alone", "webhooks", "http|link|live|accounts|db|jobs|billing|market|trust|hub"),
    closed("link-knows-no-http", "link", "http|live|accounts|db|hub"),
    closed("http-knows-no-link", "http", "link|db|hub"),
    closed(
      "background-knows-no-work",
      "background",
      "http|link|live|accounts|db|jobs|billing|market|trust|fabric|hub",
    ),
    closed("accounts-stand-alone", "accounts", "http|link|live|jobs|billing|market|trust|hub"),
  ],
  options: {
    tsPreCompilationDeps: true,
    // TypeScript 7 has no API that the tool could call.
    parser: "swc",
    exclude: "(^|/)(node_modules|dist)/",
    doNotFollow: { path: "node_modules" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "node", "default"],
      extensions: [".ts", ".tsx", ".js"],
    },
  },
};
