/** What the build of this program says of itself: constants that the bundler puts in. Run from its sources, there are none. */
declare const __GFE_BUILD__: BuildFacts | undefined;

export interface BuildFacts {
  /** `executable`: one file, which can replace itself. `npm`: a package, which npm replaces. */
  kind: "executable" | "npm" | "source";
  /** The key of the releases that this program takes for its own, as the second line of a minisign.pub; null: none. */
  releaseKey: string | null;
  /** Instead of the sources' own. */
  version?: string;
}

export const BUILD: BuildFacts =
  typeof __GFE_BUILD__ === "undefined" ? { kind: "source", releaseKey: null } : __GFE_BUILD__;
