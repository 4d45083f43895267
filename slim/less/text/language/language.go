// Package language has no languages.
package language

type Tag struct{}

var Und Tag
