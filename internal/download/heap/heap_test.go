package heap

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestHeapGivesTheLeastWhateverIsTakenOutOrChanged(t *testing.T) {
	type element struct {
		value int
		pos   int32
	}
	rapid.Check(t, func(t *rapid.T) {
		h := Heap[*element]{
			Less:  func(a, b *element) bool { return a.value < b.value },
			Index: func(e *element) *int32 { return &e.pos },
		}
		var plain []*element
		draw := func() int { return rapid.IntRange(0, 20).Draw(t, "value") }
		for _, step := range rapid.SliceOfN(rapid.SampledFrom([]string{"push", "push", "remove", "change", "pop"}), 0, 300).Draw(t, "steps") {
			if step == "push" {
				plain = append(plain, &element{value: draw()})
				h.Push(plain[len(plain)-1])
				continue
			}
			if len(plain) == 0 {
				continue
			}
			i := rapid.IntRange(0, len(plain)-1).Draw(t, "which")
			switch step {
			case "remove":
				h.Remove(plain[i])
				plain = slices.Delete(plain, i, i+1)
			case "change":
				plain[i].value = draw()
				h.Fix(plain[i])
			case "pop":
				least := slices.MinFunc(plain, func(a, b *element) int { return a.value - b.value })
				got := h.Pop()
				if got.value != least.value {
					t.Fatalf("%d first, want %d", got.value, least.value)
				}
				plain = slices.DeleteFunc(plain, func(e *element) bool { return e == got })
			}
		}
		for range plain {
			got := h.Pop()
			for _, e := range h.Items {
				if e.value < got.value {
					t.Fatalf("%d came before %d", got.value, e.value)
				}
			}
		}
		if !h.Empty() {
			t.Fatal("not empty in the end")
		}
	})
}

func TestHeapMovesTheLastElementUpWhereItTakesALargerOnesPlace(t *testing.T) {
	type element struct {
		value int
		pos   int32
	}
	h := Heap[*element]{
		Less:  func(a, b *element) bool { return a.value < b.value },
		Index: func(e *element) *int32 { return &e.pos },
	}
	var pushed []*element
	for _, v := range []int{0, 10, 1, 11, 12, 2, 3} { // a heap already: 3 is last, far from 11
		pushed = append(pushed, &element{value: v})
		h.Push(pushed[len(pushed)-1])
	}
	h.Remove(pushed[3])
	for _, want := range []int{0, 1, 2, 3, 10, 12} {
		if got := h.Pop(); got.value != want {
			t.Fatalf("%d, want %d", got.value, want)
		}
	}
}
