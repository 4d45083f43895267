#!/bin/sh
# Installs the agent of GPU For Everyone for this user. Never asks for root, and leaves nothing behind when it fails.
#
#   curl -fsSL @HUB@/install.sh | sh
#   sh install.sh --uninstall
#
# What it checks: the SHA-256 of the program against SHA256SUMS, and the signature of SHA256SUMS (minisign's format, Ed25519)
# against the key below, with minisign, OpenSSL 3 or Node, whichever is here. Without any of them it says that the signature
# was not checked; --require-signature refuses then.
set -eu

KEY='@RELEASE_KEY@'
HUB=${GFE_HUB:-'@HUB@'}
FROM=${GFE_DOWNLOAD_FROM:-"$HUB/download/files"}
KIND=slim
TO=${GFE_INSTALL_DIR:-"${HOME:?HOME is not set}/.local/bin"}
REQUIRE=0
ACTION=install
WORK=''

usage() {
  cat <<END
Usage: install.sh [--dir DIR] [--kind slim|full] [--require-signature] [--uninstall]

  --dir DIR             where the program goes; $TO unless given
  --kind slim|full      the agent alone (a few MB), or with all that runs a model by itself
  --require-signature   refuse where nothing here can check the signature
  --uninstall           remove the program
END
}

say() { printf '%s\n' "$*"; }
fail() {
  printf 'install: %s\n' "$1" >&2
  shift
  for line in "$@"; do printf '         %s\n' "$line" >&2; done
  exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }
clean() { [ -z "$WORK" ] || rm -rf "$WORK"; }
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

download() { # what, where to: whole or not at all
  if has curl; then
    curl -fsSL --connect-timeout 20 --retry 2 --max-time 900 -o "$2" "$FROM/$1"
  elif has wget; then
    wget -q -T 30 -t 3 -O "$2" "$FROM/$1"
  else
    fail 'neither curl nor wget is here: install one of them'
  fi
}
get() {
  download "$1" "$WORK/$1" || fail "$1 could not be downloaded from $FROM" \
    'Is the network up, and has this hub downloads? Nothing was installed.'
}
sum_of() {
  if has sha256sum; then sha256sum <"$1"
  elif has shasum; then shasum -a 256 <"$1"
  elif has openssl; then openssl dgst -sha256 -r <"$1"
  else fail 'nothing here computes SHA-256: install sha256sum, shasum or openssl'
  fi | cut -d ' ' -f 1
}
listed() { sed -n "s/^\([0-9a-f]\{64\}\)  $1\$/\1/p" "$WORK/SHA256SUMS"; }
damaged() { fail "$1 is not what was released: it was cut off or changed on its way" 'Nothing was installed. Try again; if it stays so, tell whoever runs the hub.'; }
bytes_of() { # a line of base64, first byte from 1, how many
  printf '%s' "$1" | openssl base64 -d -A | tail -c "+$2" | head -c "$3"
}

# The signature is 74 bytes: algorithm, key id, Ed25519 over the BLAKE2b-512 of the file. The key is 42: Ed, key id, key.
with_openssl() {
  sig=$(sed -n 2p "$1.minisig")
  [ "$(bytes_of "$sig" 1 2)" = ED ] || return 1
  bytes_of "$sig" 3 8 >"$WORK/id" && bytes_of "$KEY" 3 8 >"$WORK/key-id"
  cmp -s "$WORK/id" "$WORK/key-id" || return 1
  { printf '\060\052\060\005\006\003\053\145\160\003\041\000'; bytes_of "$KEY" 11 32; } >"$WORK/key.der"
  openssl dgst -blake2b512 -binary -out "$WORK/hash" "$1" || return 1
  bytes_of "$sig" 11 64 >"$WORK/sig"
  check_raw "$WORK/hash" || return 1
  comment=$(sed -n 3p "$1.minisig")
  { cat "$WORK/sig"; printf '%s' "${comment#trusted comment: }"; } >"$WORK/hash"
  bytes_of "$(sed -n 4p "$1.minisig")" 1 64 >"$WORK/sig"
  check_raw "$WORK/hash"
}
check_raw() {
  openssl pkeyutl -verify -pubin -keyform DER -inkey "$WORK/key.der" -rawin -in "$1" -sigfile "$WORK/sig" >/dev/null 2>&1
}
with_node() {
  node -e '
    const { createHash, createPublicKey, verify } = require("node:crypto");
    const { readFileSync } = require("node:fs");
    const [path, line] = process.argv.slice(1);
    const [, first, trusted, second] = readFileSync(path + ".minisig", "utf8").split("\n");
    const key = Buffer.from(line, "base64");
    const sig = Buffer.from(first, "base64");
    const der = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), key.subarray(10)]);
    const publicKey = createPublicKey({ key: der, format: "der", type: "spki" });
    const hash = createHash("blake2b512").update(readFileSync(path)).digest();
    const comment = Buffer.from(trusted.slice("trusted comment: ".length));
    const good = sig.subarray(0, 2).toString() === "ED" && sig.subarray(2, 10).equals(key.subarray(2, 10)) &&
      verify(null, hash, publicKey, sig.subarray(10)) &&
      verify(null, Buffer.concat([sig.subarray(10), comment]), publicKey, Buffer.from(second, "base64"));
    process.exit(good ? 0 : 1);
  ' "$1" "$KEY"
}

# A function, called in the last line: a script that was cut off on its way does nothing.
main() {
  while [ $# -gt 0 ]; do
    case $1 in
      --dir) TO=${2:?--dir needs a folder}; shift ;;
      --kind) KIND=${2:?--kind is slim or full}; shift ;;
      --require-signature) REQUIRE=1 ;;
      --uninstall) ACTION=uninstall ;;
      -h | --help) usage; exit 0 ;;
      *) usage >&2; fail "$1 is not an option of this script" ;;
    esac
    shift
  done
  case $KIND in slim | full) ;; *) fail "--kind is slim or full, not $KIND" ;; esac

  if [ "$ACTION" = uninstall ]; then
    [ -e "$TO/gfe" ] || fail "there is no $TO/gfe" 'Give the folder with --dir if you chose another.'
    rm -f "$TO/gfe" "$TO/gfe.previous"
    say "Removed $TO/gfe. The agent's key and settings are where they were: gfe uninstall, before this, removes those too."
    exit 0
  fi

  case $(uname -s) in
    Linux) OS=linux ;;
    Darwin) OS=macos ;;
    *) fail "there is no agent for $(uname -s)" "Windows has its own installer: $HUB/install.ps1" 'With Node 20 or later: npx gpu-for-everyone up' ;;
  esac
  case $(uname -m) in
    x86_64 | amd64) ARCH=x64 ;;
    aarch64 | arm64) ARCH=arm64 ;;
    *) fail "there is no agent for the processor $(uname -m)" 'With Node 20 or later: npx gpu-for-everyone up' ;;
  esac
  case $KIND in
    slim) NAME="gfe-agent-slim-$OS-$ARCH" ;;
    *) NAME="gfe-$OS-$ARCH" ;;
  esac

  umask 022
  WORK=$(mktemp -d) || fail 'no temporary folder could be made'
  say "Getting $NAME from $FROM …"
  get SHA256SUMS
  get SHA256SUMS.minisig

  VERIFIED=''
  if has minisign; then
    minisign -Vqm "$WORK/SHA256SUMS" -P "$KEY" >/dev/null 2>&1 || VERIFIED=forged
    BY=minisign
  elif has openssl && openssl version 2>/dev/null | grep -q '^OpenSSL [3-9]'; then
    with_openssl "$WORK/SHA256SUMS" || VERIFIED=forged
    BY=OpenSSL
  elif has node; then
    with_node "$WORK/SHA256SUMS" 2>/dev/null || VERIFIED=forged
    BY=Node
  else
    VERIFIED=unchecked
  fi
  case $VERIFIED in
    forged) fail 'the signature of SHA256SUMS does not fit: this is not a release of the key that this script trusts' 'Nothing was installed. Tell whoever runs the hub.' ;;
    unchecked) [ "$REQUIRE" = 0 ] || fail 'the signature cannot be checked here' 'Install minisign or OpenSSL 3, then run this again. Nothing was installed.' ;;
  esac
  # A signature is of one file: that of another, moved here, must not pass for it.
  FIELDS=$(sed -n '3s/^trusted comment: //p' "$WORK/SHA256SUMS.minisig" | tr '\t' '\n')
  [ "$VERIFIED" = unchecked ] || printf '%s\n' "$FIELDS" | grep -qx 'file:SHA256SUMS' ||
    fail 'what was signed is another file than SHA256SUMS' 'Nothing was installed. Tell whoever runs the hub.'
  VERSION=$(printf '%s\n' "$FIELDS" | sed -n 's/^version:\([0-9A-Za-z.-]*\)$/\1/p')
  EXPIRES=$(printf '%s\n' "$FIELDS" | sed -n 's/^expires:\([0-9]\{1,12\}\)$/\1/p')
  [ "${EXPIRES:-0}" -gt "$(date +%s)" ] || fail 'the signature of this release has ended: it is old, or was withdrawn' \
    'Nothing was installed. Ask whoever runs the hub for a newer one; is the clock of this machine right?'

  WANTED=$(listed "$NAME")
  [ -n "$WANTED" ] || fail "this release has no $NAME" "See what there is: $HUB/download"
  PACKED=$(listed "$NAME.xz")
  if [ -n "$PACKED" ] && has xz; then
    get "$NAME.xz"
    [ "$(sum_of "$WORK/$NAME.xz")" = "$PACKED" ] || damaged "$NAME.xz"
    xz -dc "$WORK/$NAME.xz" >"$WORK/$NAME" || damaged "$NAME.xz"
  else
    get "$NAME"
  fi
  [ "$(sum_of "$WORK/$NAME")" = "$WANTED" ] || damaged "$NAME"

  mkdir -p "$TO" || fail "$TO cannot be made: give another folder with --dir"
  # Beside its place first, so that there is the old program or the new one, never a part.
  if ! { cp "$WORK/$NAME" "$TO/.gfe.$$" && chmod 755 "$TO/.gfe.$$" && mv -f "$TO/.gfe.$$" "$TO/gfe"; } 2>/dev/null; then
    rm -f "$TO/.gfe.$$"
    fail "$TO/gfe cannot be written: is the disk full, or the folder somebody else's?" 'Give another folder with --dir.'
  fi

  if [ "$VERIFIED" = unchecked ]; then
    say "Installed $TO/gfe${VERSION:+, version $VERSION}."
    say 'Checked: its SHA-256. NOT checked: the signature, for want of minisign, OpenSSL 3 or Node.'
  else
    say "Installed $TO/gfe, version $VERSION."
    say "Checked: its SHA-256, and the signature of the release (by $BY)."
  fi
  GFE=gfe
  case ":${PATH:-}:" in
    *":$TO:"*) ;;
    *)
      GFE=$TO/gfe
      say "$TO is not on your PATH: for plain \`gfe\`, add it in your shell's profile."
      ;;
  esac
  say ''
  say "Next:       $GFE up --hub $HUB"
  say "To remove:  $GFE uninstall, then rm $TO/gfe"
}

main "$@"
