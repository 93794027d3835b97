// Package heap is a binary heap whose elements know their index, so that each of them can
// be removed, or moved after its order has changed, in O(log n).
package heap

// Heap is a binary heap. The zero value with Less and Index set is empty. It is not safe
// for concurrent use.
type Heap[T any] struct {
	Items []T
	Less  func(a, b T) bool
	Index func(T) *int32 // where the element keeps its index
}

// Empty reports whether the heap has no element.
func (h *Heap[T]) Empty() bool { return len(h.Items) == 0 }

// First is the first element; the heap must not be empty.
func (h *Heap[T]) First() T { return h.Items[0] }

// Push adds an element.
func (h *Heap[T]) Push(x T) {
	h.Items = append(h.Items, x)
	*h.Index(x) = int32(len(h.Items) - 1)
	h.up(len(h.Items) - 1)
}

// Pop removes the first element and returns it; the heap must not be empty.
func (h *Heap[T]) Pop() T {
	x := h.Items[0]
	h.Remove(x)
	return x
}

// Remove removes an element that is in the heap.
func (h *Heap[T]) Remove(x T) {
	i, last := int(*h.Index(x)), len(h.Items)-1
	h.swap(i, last)
	var none T
	h.Items[last] = none
	h.Items = h.Items[:last]
	if i < last {
		h.Fix(h.Items[i])
	}
}

// Fix restores the order after an element's own has changed.
func (h *Heap[T]) Fix(x T) {
	h.up(int(*h.Index(x)))
	h.down(int(*h.Index(x)))
}

func (h *Heap[T]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.Less(h.Items[i], h.Items[parent]) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h *Heap[T]) down(i int) {
	for {
		first := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h.Items); child++ {
			if h.Less(h.Items[child], h.Items[first]) {
				first = child
			}
		}
		if first == i {
			return
		}
		h.swap(i, first)
		i = first
	}
}

func (h *Heap[T]) swap(i, j int) {
	h.Items[i], h.Items[j] = h.Items[j], h.Items[i]
	*h.Index(h.Items[i]), *h.Index(h.Items[j]) = int32(i), int32(j)
}
