/** The machines that the executables are for, and what each may weigh. */

export type Os = "linux" | "windows" | "macos";
export type Arch = "x64" | "arm64";
export type Kind = "slim" | "full";

export interface Target {
  os: Os;
  arch: Arch;
  goos: "linux" | "windows" | "darwin";
  goarch: "amd64" | "arm64";
  /** The npm package with Bun for it. */
  bun: string;
}

export const TARGETS: readonly Target[] = [
  { os: "linux", arch: "x64", goos: "linux", goarch: "amd64", bun: "@oven/bun-linux-x64-baseline" },
  { os: "linux", arch: "arm64", goos: "linux", goarch: "arm64", bun: "@oven/bun-linux-aarch64" },
  { os: "windows", arch: "x64", goos: "windows", goarch: "amd64", bun: "@oven/bun-windows-x64-baseline" },
  { os: "macos", arch: "arm64", goos: "darwin", goarch: "arm64", bun: "@oven/bun-darwin-aarch64" },
  { os: "macos", arch: "x64", goos: "darwin", goarch: "amd64", bun: "@oven/bun-darwin-x64-baseline" },
];

const MB = 1_000_000;

/** In bytes; the issue's, in the smaller kind of megabyte. */
export const LIMITS: Readonly<Record<Kind, { bytes: number; compressedBytes: number }>> = {
  slim: { bytes: 10 * MB, compressedBytes: 4 * MB },
  full: { bytes: Number.POSITIVE_INFINITY, compressedBytes: 40 * MB },
};

export const targetName = ({ os, arch }: Pick<Target, "os" | "arch">): string => `${os}-${arch}`;

/** `gfe-agent-slim-linux-x64`, `gfe-windows-x64.exe`. */
export const fileName = (kind: Kind, target: Target): string =>
  `${kind === "slim" ? "gfe-agent-slim" : "gfe"}-${targetName(target)}${target.os === "windows" ? ".exe" : ""}`;
