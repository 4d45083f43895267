declare module "proxy-from-env" {
  /** The proxy's address, or "" where none is meant. */
  export function getProxyForUrl(url: string): string;
}
