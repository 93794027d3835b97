package main

import (
	"cmp"
	"container/heap"
	"slices"
	"time"
)

// job is a file to be fetched over a line that all share.
type job struct {
	size int64     // bytes
	due  time.Time // it is in vain after that
}

// possible is the most jobs that can be done in time over a line of so many bytes
// a second, from begin on: Moore and Hodgson's algorithm (Moore, "An n job, one
// machine sequencing algorithm for minimizing the number of late jobs", Management
// Science 15, 1968), which is optimal. In the order of the due times, whenever a job
// would be late, the largest so far is given up.
func possible(jobs []job, begin time.Time, bytesPerSecond int64) int {
	jobs = slices.SortedFunc(slices.Values(jobs), func(a, b job) int { return a.due.Compare(b.due) })
	var kept largest
	var total int64
	for _, j := range jobs {
		heap.Push(&kept, j.size)
		total += j.size
		if float64(total)/float64(bytesPerSecond) > j.due.Sub(begin).Seconds() {
			total -= heap.Pop(&kept).(int64)
		}
	}
	return len(kept)
}

// largest is a heap of sizes with the largest on top.
type largest []int64

func (h largest) Len() int           { return len(h) }
func (h largest) Less(i, j int) bool { return cmp.Less(h[j], h[i]) }
func (h largest) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *largest) Push(x any)        { *h = append(*h, x.(int64)) }
func (h *largest) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}
