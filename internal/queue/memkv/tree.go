package memkv

import "hash/maphash"

// node is a tree that is ordered by keys from left to right and by priorities from the
// root down (a treap: Seidel and Aragon, "Randomized search trees", 1996). Priorities are
// hashes of the keys, so that the tree is balanced. A nil node is the empty tree. No node
// is changed after its tree was returned.
type node struct {
	key         string
	value       []byte
	priority    uint64
	left, right *node
}

var seed = maphash.MakeSeed()

// find returns the node of a key; nil where there is none.
func (n *node) find(key string) *node {
	for n != nil && n.key != key {
		if key < n.key {
			n = n.left
		} else {
			n = n.right
		}
	}
	return n
}

// above returns the node of the first key that is greater than key, or equal to it where
// that is wanted.
func (n *node) above(key string, equal bool) (found *node) {
	for n != nil {
		if n.key > key || equal && n.key == key {
			found, n = n, n.left
		} else {
			n = n.right
		}
	}
	return found
}

// below returns the node of the last key that is less than key.
func (n *node) below(key string) (found *node) {
	for n != nil {
		if n.key < key {
			found, n = n, n.right
		} else {
			n = n.left
		}
	}
	return found
}

func (n *node) last() *node {
	for n != nil && n.right != nil {
		n = n.right
	}
	return n
}

// put returns the tree with this value under the key.
func (n *node) put(key string, value []byte) *node {
	if n == nil {
		return &node{key: key, value: value, priority: maphash.String(seed, key)}
	}
	c := *n
	switch {
	case key == n.key:
		c.value = value
	case key < n.key:
		c.left = n.left.put(key, value)
		if l := c.left; l.priority > c.priority {
			c.left, l.right = l.right, &c
			return l
		}
	default:
		c.right = n.right.put(key, value)
		if r := c.right; r.priority > c.priority {
			c.right, r.left = r.left, &c
			return r
		}
	}
	return &c
}

// remove returns the tree without a key, which is in it.
func (n *node) remove(key string) *node {
	c := *n
	switch {
	case key == n.key:
		return join(n.left, n.right)
	case key < n.key:
		c.left = n.left.remove(key)
	default:
		c.right = n.right.remove(key)
	}
	return &c
}

// join returns the tree of all nodes of two trees, of which the first has the lesser keys.
func join(a, b *node) *node {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.priority > b.priority:
		c := *a
		c.right = join(a.right, b)
		return &c
	default:
		c := *b
		c.left = join(a, b.left)
		return &c
	}
}
