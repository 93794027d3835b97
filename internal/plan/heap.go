package plan

// heap is a binary heap whose elements know where they stand, so that any of
// them can be moved or taken out in O(log n).
type heap[T any] struct {
	all  []T
	less func(a, b T) bool
	at   func(T) *int32 // where the element keeps its place
}

func (h *heap[T]) empty() bool { return len(h.all) == 0 }

// head is the first element; the heap must not be empty.
func (h *heap[T]) head() T { return h.all[0] }

func (h *heap[T]) push(x T) {
	h.all = append(h.all, x)
	*h.at(x) = int32(len(h.all) - 1)
	h.up(len(h.all) - 1)
}

func (h *heap[T]) pop() T {
	x := h.all[0]
	h.remove(x)
	return x
}

// remove takes out an element that is in the heap.
func (h *heap[T]) remove(x T) {
	i, last := int(*h.at(x)), len(h.all)-1
	h.swap(i, last)
	var none T
	h.all[last] = none
	h.all = h.all[:last]
	if i < last {
		h.fix(h.all[i])
	}
}

// fix puts an element whose order has changed in its place.
func (h *heap[T]) fix(x T) {
	h.up(int(*h.at(x)))
	h.down(int(*h.at(x)))
}

func (h *heap[T]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.less(h.all[i], h.all[parent]) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h *heap[T]) down(i int) {
	for {
		first := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h.all); child++ {
			if h.less(h.all[child], h.all[first]) {
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

func (h *heap[T]) swap(i, j int) {
	h.all[i], h.all[j] = h.all[j], h.all[i]
	*h.at(h.all[i]), *h.at(h.all[j]) = int32(i), int32(j)
}
