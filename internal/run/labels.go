package run

import (
	"fmt"
	"maps"
	"slices"
)

// The limits of a run's labels. They are the same for every way in: drop files, the
// command line, HTTP, and the queue itself.
const (
	MaxLabels     = 64       // labels of one run
	MaxLabelName  = 128      // bytes of a label's name
	MaxLabelValue = 1 << 10  // bytes of a label's value
	MaxLabelBytes = 16 << 10 // bytes of all names and values of one run
)

// CheckLabels returns why a run cannot have these labels, or nil. Of several reasons
// it always returns the same one.
func CheckLabels(labels map[string]string) error {
	size := 0
	for name, value := range labels {
		size += len(name) + len(value)
		if name == "" || len(name) > MaxLabelName || len(value) > MaxLabelValue {
			return firstBadLabel(labels)
		}
	}
	switch {
	case len(labels) > MaxLabels:
		return fmt.Errorf("there are %d labels: a run has at most %d", len(labels), MaxLabels)
	case size > MaxLabelBytes:
		return fmt.Errorf("the labels come to %d bytes: those of a run have at most %d", size, MaxLabelBytes)
	}
	return nil
}

func firstBadLabel(labels map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		switch value := labels[name]; {
		case name == "":
			return fmt.Errorf("a label has no name")
		case len(name) > MaxLabelName:
			return fmt.Errorf("the name of label %.40q has %d bytes: at most %d", name, len(name), MaxLabelName)
		case len(value) > MaxLabelValue:
			return fmt.Errorf("the value of label %.40q has %d bytes: at most %d", name, len(value), MaxLabelValue)
		}
	}
	return nil
}
