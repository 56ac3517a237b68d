package system

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
)

// The formats of /etc/ld.so.cache, as ldconfig writes them.
const (
	oldMagic = "ld.so-1.7.0"
	newMagic = "glibc-ld.so.cache1.1"

	oldHeader = 16 // bytes, the number of entries at their end
	oldEntry  = 12 // flags, name, path
	newHeader = 48 // number of entries, bytes of strings, byte order, place of the extensions
	newEntry  = 24 // flags, name, path, a version that nothing reads, hardware capabilities

	extensionMagic  = 0xEAA42174
	extensionHWCaps = 1 // a section's tag: the folders below glibc-hwcaps/
	// hwcapExtension marks an entry whose hardware capabilities are a number of one
	// of these folders instead of bits.
	hwcapExtension = 1 << 62 >> 32 // in the upper half
	hwcapLevels    = 1<<10 - 1     // there, too: the processor's level that the object's notes ask for

	maxCache        = 32 << 20 // bytes; Debian with everything has 3 MB
	maxCacheEntries = 200_000
	maxPath         = 4096
)

// errNoCache says that ld.so goes on as if no cache were there.
var errNoCache = errors.New("it is not a cache of ld.so")

// Cache is the content of an /etc/ld.so.cache.
type Cache struct {
	names   []string     // by entry
	entries []CacheEntry // in the cache's order
	byName  map[string][]CacheEntry
}

// ParseCache reads an /etc/ld.so.cache of either format. Entries that lead out of the
// file are left out, as ld.so passes over them.
func ParseCache(data []byte) (*Cache, error) {
	if len(data) > maxCache {
		return nil, errNoCache
	}
	c := &Cache{}
	if bytes.HasPrefix(data, []byte(newMagic)) {
		if !c.readNew(data, 0) {
			return nil, errNoCache
		}
	} else if !c.readOld(data) {
		return nil, errNoCache
	}
	c.arrange()
	return c, nil
}

// arrange makes the names ready for Find.
func (c *Cache) arrange() {
	c.byName = make(map[string][]CacheEntry, len(c.entries))
	for i, e := range c.entries {
		key := numeric(c.names[i])
		c.byName[key] = append(c.byName[key], e)
	}
}

// Find gives the entries for a name in the cache's order.
func (c *Cache) Find(name string) []CacheEntry {
	if c == nil {
		return nil
	}
	return c.byName[numeric(name)]
}

// numeric spells a name as ld.so compares it: the numbers in it by their values.
func numeric(name string) string {
	clean := true
	for i := 0; i+1 < len(name) && clean; i++ {
		clean = name[i] != '0' || !digit(name[i+1]) || i > 0 && digit(name[i-1])
	}
	if clean {
		return name
	}
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		first := i == 0 || !digit(name[i-1])
		for first && name[i] == '0' && i+1 < len(name) && digit(name[i+1]) {
			i++
		}
		b.WriteByte(name[i])
	}
	return b.String()
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// readOld reads the old format. Up to glibc 2.31 ldconfig lets the new one follow, which
// ld.so prefers.
func (c *Cache) readOld(data []byte) bool {
	if !bytes.HasPrefix(data, []byte(oldMagic)) || len(data) < oldHeader {
		return false
	}
	order, n := entriesOf(data, oldHeader-4, oldHeader, oldEntry, byteOrders)
	if order == nil {
		return false
	}
	end := oldHeader + n*oldEntry
	for _, align := range []int{8, 4} { // of a 64-bit number, which i386 aligns to 4
		at := (end + align - 1) / align * align
		if at < len(data) && bytes.HasPrefix(data[at:], []byte(newMagic)) && c.readNew(data, at) {
			return true
		}
	}
	text := string(data[end:])
	for i := range n {
		e := data[oldHeader+i*oldEntry:]
		c.add(text, order.Uint32(e[4:]), order.Uint32(e[8:]), CacheEntry{Flags: order.Uint32(e)})
	}
	return true
}

var byteOrders = []binary.ByteOrder{binary.LittleEndian, binary.BigEndian}

// entriesOf reads the number of entries at a place, in the byte order in which it fits;
// the order is nil where it never does.
func entriesOf(data []byte, at, header, entry int, orders []binary.ByteOrder) (binary.ByteOrder, int) {
	for _, order := range orders {
		if n := int64(order.Uint32(data[at:])); n <= int64(len(data)-header)/int64(entry) && n <= maxCacheEntries {
			return order, int(n)
		}
	}
	return nil, 0
}

// readNew reads the new format, which begins at a place of the file.
func (c *Cache) readNew(file []byte, at int) bool {
	data := file[at:]
	if len(data) < newHeader {
		return false
	}
	var orders []binary.ByteOrder
	switch data[28] & 3 { // glibc 2.33 and later say which byte order it is
	case 0:
		orders = byteOrders
	case 2:
		orders = byteOrders[:1]
	case 3:
		orders = byteOrders[1:]
	}
	order, n := entriesOf(data, 20, newHeader, newEntry, orders)
	if order == nil {
		return false
	}
	text := string(data)
	hwcaps := cacheHWCaps(string(file), order, order.Uint32(data[32:]))
	for i := range n {
		e := data[newHeader+i*newEntry:]
		entry := CacheEntry{Flags: order.Uint32(e), OldHWCap: order.Uint64(e[16:])}
		// Another bit than the mark, or a number of no folder: no processor has that,
		// and the bits stay for the loader to see.
		mark := entry.OldHWCap >> 32 &^ hwcapLevels
		if i := uint32(entry.OldHWCap); mark == hwcapExtension && int64(i) < int64(len(hwcaps)) {
			entry.HWCap, entry.OldHWCap = hwcaps[i], 0
		}
		c.add(text, order.Uint32(e[4:]), order.Uint32(e[8:]), entry)
	}
	return true
}

func (c *Cache) add(text string, name, path uint32, e CacheEntry) {
	key, ok := cacheString(text, name)
	value, found := cacheString(text, path)
	if !ok || !found {
		return
	}
	e.Path = value
	c.names, c.entries = append(c.names, key), append(c.entries, e)
}

// cacheString is the text at a place that ends with a NUL; it shares its bytes.
func cacheString(text string, at uint32) (string, bool) {
	if int64(at) >= int64(len(text)) {
		return "", false
	}
	s := text[at:]
	end := strings.IndexByte(s[:min(len(s), maxPath)], 0)
	if end <= 0 {
		return "", false
	}
	return s[:end], true
}

// cacheHWCaps are the folders below glibc-hwcaps/ that entries name by number.
func cacheHWCaps(file string, order binary.ByteOrder, at uint32) []string {
	number := func(at int64) (int64, bool) {
		if at < 0 || at+4 > int64(len(file)) {
			return 0, false
		}
		return int64(order.Uint32([]byte(file[at : at+4]))), true
	}
	magic, ok := number(int64(at))
	sections, found := number(int64(at) + 4)
	if at == 0 || !ok || !found || magic != extensionMagic || sections > 64 {
		return nil
	}
	for i := range sections {
		section := int64(at) + 8 + i*16
		tag, _ := number(section)
		from, _ := number(section + 8)
		size, ok := number(section + 12)
		if !ok || tag != extensionHWCaps || size > 4*1024 {
			continue
		}
		var names []string
		for p := from; p+4 <= from+size; p += 4 {
			offset, ok := number(p)
			name, found := cacheString(file, uint32(offset))
			if !ok || !found || strings.ContainsRune(name, '/') {
				return nil
			}
			names = append(names, name)
		}
		return names
	}
	return nil
}
