package object

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"
)

// seed is this process's: hashes leave it nowhere.
var seed = maphash.MakeSeed()

// Hash is a name's, to look it up in many objects.
func Hash(name string) uint64 { return maphash.String(seed, name) }

// Named are the exports of a name, in the order of their versions. Most look-ups are of
// what an object hasn't got, and those are answered out of a filter.
func (o *Object) Named(name string) []Export { return o.NamedHash(Hash(name), name) }

// NamedHash is Named, for who has the name's hash already.
func (o *Object) NamedHash(hash uint64, name string) []Export {
	if len(o.Exports) == 0 {
		return nil
	}
	var i int
	if o.names == nil {
		var ok bool
		i, ok = slices.BinarySearchFunc(o.Exports, name, func(e Export, name string) int { return strings.Compare(e.Name, name) })
		if !ok {
			return nil
		}
	} else {
		o.names.once.Do(func() { o.names.fill(o.Exports) })
		if i = o.names.find(o.Exports, hash, name); i < 0 {
			return nil
		}
	}
	end := i + 1
	for end < len(o.Exports) && o.Exports[end].Name == name {
		end++
	}
	return o.Exports[i:end:end]
}

// names finds the first export of a name. It is made when it is first asked.
type names struct {
	once  sync.Once
	slots []slot
}

// slot is a place of an open hash table, of which at most a half is taken.
type slot struct {
	tag   uint32 // upper bits of the hash
	index uint32 // of the export, counted from 1; 0 for a free slot
}

func (n *names) fill(exports []Export) {
	size := 4
	for size < 2*len(exports) {
		size *= 2
	}
	n.slots = make([]slot, size)
	clear(n.slots) // a page that is read before it is written is made twice, and all processors are told
	for i := range exports {
		if i > 0 && exports[i-1].Name == exports[i].Name {
			continue
		}
		hash := Hash(exports[i].Name)
		at := hash & uint64(size-1)
		for n.slots[at].index != 0 {
			at = (at + 1) & uint64(size-1)
		}
		n.slots[at] = slot{uint32(hash >> 32), uint32(i) + 1}
	}
}

func (n *names) find(exports []Export, hash uint64, name string) int {
	mask := uint64(len(n.slots) - 1)
	for at := hash & mask; n.slots[at].index != 0; at = (at + 1) & mask {
		if s := n.slots[at]; s.tag == uint32(hash>>32) && exports[s.index-1].Name == name {
			return int(s.index - 1)
		}
	}
	return -1
}
