//go:build !conformance

package main

import _ "embed"

// Made by scripts/build-agents.ts.
//
//go:embed dist/agent.parts
var bundle []byte
