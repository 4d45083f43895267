// Package profile has the shape of a profile that nobody makes.
package profile

import "io"

type Function struct {
	ID                         uint64
	Name, SystemName, Filename string
	StartLine                  int64
}

type Mapping struct {
	ID           uint64
	File         string
	HasFunctions bool
}

type Line struct {
	Function *Function
	Line     int64
}

type Location struct {
	ID      uint64
	Mapping *Mapping
	Line    []Line
}

type Sample struct {
	Location []*Location
	Value    []int64
}

type ValueType struct{ Type, Unit string }

type Profile struct {
	SampleType               []*ValueType
	Sample                   []*Sample
	Mapping                  []*Mapping
	Location                 []*Location
	Function                 []*Function
	PeriodType               *ValueType
	DefaultSampleType        string
	TimeNanos, DurationNanos int64
	Period                   int64
}

func (*Profile) Write(io.Writer) error { return nil }
