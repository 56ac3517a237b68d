package snapshot

// Resolve gives the path under which the host itself has what a package calls p:
// links among its folders are followed inside of the root, the last element never.
// A path whose links go in circles is given back as it is.
func (inv *Inventory) Resolve(p string) string {
	if real, err := NewLinks(inv.Links).Path(p); err == nil {
		return real
	}
	return p
}

// follow resolves all of a path, its last element too.
func follow(links map[string]string, p string) string {
	if real, err := NewLinks(links).Dir(p); err == nil {
		return real
	}
	return p
}
