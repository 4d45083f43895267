/** `npm run build:package`: makes the npm package in dist/npm and its tarball beside it. Fails where it is above its limit. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { buildNpmPackage, CODE_BYTES_MAX } from "./release/npm-package.ts";

const DIST = join(import.meta.dirname, "..", "dist");
const PACK_MS = 60_000;

const releaseKey = process.env.GFE_RELEASE_KEY ?? null;
const { codeBytes, version } = await buildNpmPackage(join(DIST, "npm"), { releaseKey });
const packed = JSON.parse(
  execFileSync("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", DIST], {
    ...{ cwd: join(DIST, "npm"), encoding: "utf8", timeout: PACK_MS },
    stdio: ["ignore", "pipe", "ignore"],
  }),
) as
  | { filename: string; size: number; unpackedSize: number }[]
  | Record<string, { filename: string; size: number; unpackedSize: number }>;
const { filename, size, unpackedSize } = Object.values(packed)[0]!;
const kb = (bytes: number) => `${(bytes / 1e3).toFixed(0)} kB`;
console.log(
  `gpu-for-everyone ${version}: its own code has ${kb(codeBytes)} of ${kb(CODE_BYTES_MAX)} at most`,
);
console.log(`dist/${filename}: ${kb(size)} to download, ${kb(unpackedSize)} unpacked`);
if (!releaseKey)
  console.log("Without GFE_RELEASE_KEY: this package trusts no release and looks for no updates.");
if (codeBytes > CODE_BYTES_MAX) {
  console.error("That is too much: the package may have grown a dependency.");
  process.exit(1);
}
