package object

import (
	"debug/elf"
	"errors"
)

// hashTable is how a loader finds an object's symbols by name: one that isn't in it can't
// be bound to.
type hashTable interface {
	// start is the first symbol's number, and count one more than the last one's.
	start() int
	count() int
	// finds says whether a loader that looks for name comes by symbol i. It is asked for
	// each in turn.
	finds(i int, name string) bool
}

// hash reads DT_GNU_HASH, else DT_HASH, as loaders do; nil where there is neither.
func (im *image) hash(t *tags) (hashTable, error) {
	if addr, ok := t.one[elf.DT_GNU_HASH]; ok {
		return im.gnuHash(addr)
	}
	if addr, ok := t.one[elf.DT_HASH]; ok {
		return im.sysvHash(addr)
	}
	return nil, nil
}

// gnuTable is DT_GNU_HASH.
type gnuTable struct {
	first          int // number of the first symbol in it
	buckets, chain []uint32
	bloom          []uint64
	bits, shift    uint32
	run            int // the first symbol of the chain that symbol i is in
}

func (im *image) gnuHash(addr uint64) (hashTable, error) {
	head, err := im.memory(addr, 16)
	if err != nil {
		return nil, err
	}
	u := im.order.Uint32
	buckets, first, words := u(head), u(head[4:]), u(head[8:])
	if buckets > 2*maxSymbols || first > maxSymbols || words > maxSymbols {
		return nil, im.damaged("its hash table is too large")
	}
	if words == 0 || words&(words-1) != 0 {
		return nil, im.damaged("its hash table has %d words of filter", words)
	}
	word := im.pick(4, 8)
	h := &gnuTable{first: int(first), bits: uint32(word * 8), shift: u(head[12:]) & 31, run: int(first)}
	addr += 16
	raw, err := im.memory(addr, uint64(words)*uint64(word))
	if err != nil {
		return nil, err
	}
	for ; len(raw) > 0; raw = raw[word:] {
		h.bloom = append(h.bloom, im.word(raw))
	}
	addr += uint64(words) * uint64(word)
	if h.buckets, err = im.words(addr, buckets); err != nil {
		return nil, err
	}
	addr += 4 * uint64(buckets)
	var last uint32
	for _, b := range h.buckets {
		if b != 0 && b < first || b >= maxSymbols {
			return nil, im.damaged("its hash table is damaged")
		}
		last = max(last, b)
	}
	if last == 0 {
		return h, nil
	}
	// The last chain tells where it ends, and the table with it.
	if h.chain, err = im.words(addr, last-first); err != nil {
		return nil, err
	}
	addr += 4 * uint64(last-first)
	_, rest, err := im.offset(addr)
	if err != nil {
		return nil, err
	}
	ended := errors.New("the end")
	err = im.each(addr, min(rest, 4*maxSymbols), 4, func(_ int, b []byte) error {
		h.chain = append(h.chain, u(b))
		if u(b)&1 != 0 {
			return ended
		}
		return nil
	})
	if err == ended {
		return h, nil
	}
	if err != nil {
		return nil, err
	}
	return nil, im.damaged("its hash table has no end")
}

func (h *gnuTable) start() int { return h.first }
func (h *gnuTable) count() int { return h.first + len(h.chain) }

func (h *gnuTable) finds(i int, name string) bool {
	if i < h.first || i >= h.count() || len(h.buckets) == 0 {
		return false
	}
	run := h.run
	if h.chain[i-h.first]&1 != 0 {
		h.run = i + 1
	}
	hash := uint32(5381)
	for j := range len(name) {
		hash = hash*33 + uint32(name[j])
	}
	if (h.chain[i-h.first]^hash)>>1 != 0 {
		return false
	}
	if bucket := int(h.buckets[hash%uint32(len(h.buckets))]); bucket < run || bucket > i {
		return false
	}
	filter := h.bloom[hash/h.bits&uint32(len(h.bloom)-1)]
	return filter>>(hash%h.bits)&(filter>>((hash>>h.shift)%h.bits))&1 != 0
}

// sysvTable is DT_HASH.
type sysvTable struct {
	buckets uint32
	reached []uint32 // for each symbol its bucket, counted from 1
}

func (im *image) sysvHash(addr uint64) (hashTable, error) {
	// Two machines have wide entries.
	wide := im.is64 && (im.o.Machine == elf.EM_S390 || im.o.Machine == elf.EM_ALPHA)
	words := im.words
	width := uint64(4)
	if wide {
		words, width = im.wideWords, 8
	}
	head, err := words(addr, 2)
	if err != nil {
		return nil, err
	}
	buckets, chains := head[0], head[1]
	if buckets > 2*maxSymbols || chains > maxSymbols {
		return nil, im.damaged("its hash table is too large")
	}
	start, err := words(addr+2*width, buckets)
	if err != nil {
		return nil, err
	}
	chain, err := words(addr+(2+uint64(buckets))*width, chains)
	if err != nil {
		return nil, err
	}
	h := &sysvTable{buckets: buckets, reached: make([]uint32, chains)}
	for b, i := range start {
		for i != 0 {
			if i >= chains {
				return nil, im.damaged("its hash table is damaged")
			}
			if h.reached[i] != 0 {
				break
			}
			h.reached[i] = uint32(b) + 1
			i = chain[i]
		}
	}
	return h, nil
}

func (h *sysvTable) start() int { return 0 }
func (h *sysvTable) count() int { return len(h.reached) }

func (h *sysvTable) finds(i int, name string) bool {
	if i >= len(h.reached) || h.buckets == 0 {
		return false
	}
	return h.reached[i] == sysvHashOf(name)%h.buckets+1
}

// sysvHashOf is the hash that DT_HASH and versions have.
func sysvHashOf(name string) (hash uint32) {
	for i := range len(name) {
		hash = hash<<4 + uint32(name[i])
		hash ^= hash >> 24 & 0xf0
	}
	return hash & 0x0fffffff
}

// words reads n numbers of four bytes.
func (im *image) words(addr uint64, n uint32) ([]uint32, error) {
	b, err := im.memory(addr, 4*uint64(n))
	if err != nil {
		return nil, err
	}
	w := make([]uint32, n)
	for i := range w {
		w[i] = im.order.Uint32(b[4*i:])
	}
	return w, nil
}

// wideWords reads n numbers of eight bytes that have to fit into four.
func (im *image) wideWords(addr uint64, n uint32) ([]uint32, error) {
	b, err := im.memory(addr, 8*uint64(n))
	if err != nil {
		return nil, err
	}
	w := make([]uint32, n)
	for i := range w {
		v := im.order.Uint64(b[8*i:])
		if v > maxSymbols*4 {
			return nil, im.damaged("its hash table is too large")
		}
		w[i] = uint32(v)
	}
	return w, nil
}
