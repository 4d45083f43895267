package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"

	"github.com/dop251/goja"
)

// What PKCS#8 has before the 32 bytes of an Ed25519 key (RFC 8410, section 7).
var pkcs8Prefix = []byte{0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20}

func (l *loop) buffer(data []byte) goja.Value {
	return l.vm.ToValue(l.vm.NewArrayBuffer(data))
}

func (l *loop) randomBytes(call goja.FunctionCall) goja.Value {
	data := make([]byte, call.Argument(0).ToInteger())
	_, _ = rand.Read(data) // never fails
	return l.buffer(data)
}

func (l *loop) sha256(call goja.FunctionCall) goja.Value {
	sum := sha256.Sum256(l.bytes(call.Argument(0)))
	return l.buffer(sum[:])
}

func (l *loop) ed25519Generate(goja.FunctionCall) goja.Value {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(l.errorValue(err))
	}
	pair := l.vm.NewObject()
	_ = pair.Set("publicKey", l.buffer(public))
	_ = pair.Set("privateKey", l.buffer(append(bytes.Clone(pkcs8Prefix), private.Seed()...)))
	return pair
}

// ed25519Signer is a function from bytes to their signature.
func (l *loop) ed25519Signer(call goja.FunctionCall) goja.Value {
	seed, found := bytes.CutPrefix(l.bytes(call.Argument(0)), pkcs8Prefix)
	if !found || len(seed) != ed25519.SeedSize {
		panic(l.vm.NewTypeError("this is no Ed25519 key in PKCS#8"))
	}
	key := ed25519.NewKeyFromSeed(seed)
	return l.vm.ToValue(func(call goja.FunctionCall) goja.Value {
		return l.buffer(ed25519.Sign(key, l.bytes(call.Argument(0))))
	})
}

func (l *loop) ed25519Verify(call goja.FunctionCall) goja.Value {
	key, signature, data := l.bytes(call.Argument(0)), l.bytes(call.Argument(1)), l.bytes(call.Argument(2))
	return l.vm.ToValue(len(key) == ed25519.PublicKeySize && ed25519.Verify(key, data, signature))
}
