//go:build !conformance

package main

import _ "embed"

// Made by scripts/build-agents.ts.
//
//go:embed dist/agent.js.gz
var bundle []byte
