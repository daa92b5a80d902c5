package protocol

// API is one row of klink's API table.
type API struct {
	Key      int16
	Name     string
	Min, Max int16 // versions that klink understands
	// FlexibleFrom is the first version with tagged fields.
	FlexibleFrom int16
}

// Supported finds the row of a key.
func Supported(key int16) (API, bool) {
	panic("filled by the API table")
}

// Flexible says whether a request of this key and version has tagged fields; ok is false for what klink does not know.
func Flexible(key, version int16) (flexible, ok bool) {
	api, ok := Supported(key)
	if !ok || version < api.Min || version > api.Max {
		return false, false
	}
	return version >= api.FlexibleFrom, true
}
