//go:build conformance

package main

import _ "embed"

// The cases that every host must pass, instead of the agent.
//
//go:embed dist/conformance.parts
var bundle []byte
