// Package cases knows capitals and small letters one by one.
package cases

import (
	"strings"

	"golang.org/x/text/language"
)

type Caser func(string) string

func Upper(language.Tag) Caser { return strings.ToUpper }
func Lower(language.Tag) Caser { return strings.ToLower }

func (c Caser) String(text string) string { return c(text) }
