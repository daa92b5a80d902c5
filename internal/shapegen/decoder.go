package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"strconv"
	"strings"
)

// field is one field of a message.
type field struct {
	name     string
	form     string // the constructor in protocol, or one of the two below
	size     int    // of a number, or of each number in an array, in bytes
	from, to string // first and last version, "" = no limit
	of       string // the Go type of the struct
	fields   []field
	tags     []field
	tag      string // number of a tagged field
	key      bool   // part of the key of the struct; see keys
	keyed    bool   // an array of structs with a key
}

const (
	formStruct = "structure" // in place
	formNull   = "nullable"  // in place, after a byte that says whether it is present
)

// sizes are the sizes in bytes of fixed-size fields, by method of kbin.Reader.
var sizes = map[string]int{
	"Bool": 1, "Int8": 1, "Int16": 2, "Uint16": 2, "Int32": 4, "Uint32": 4, "Int64": 8, "Float64": 8, "Uuid": 16,
}

// texts maps the methods that read fields with a length in front to their form. Each also has a
// compact variant, which is not listed.
var texts = map[string]string{
	"String": "text", "NullableString": "text", "Bytes": "blob", "NullableBytes": "blob",
}

// structure reads the statements that decode a struct.
func structure(stmts []ast.Stmt) (fields, tags []field, err error) {
	for _, s := range stmts {
		var f field
		switch s := s.(type) {
		case *ast.BlockStmt:
			f, err = one(s.List)
		case *ast.IfStmt:
			if is(s.Cond, "isFlexible") {
				if tags, err = tagged(s.Body.List); err != nil {
					return nil, nil, err
				}
				continue
			}
			from, to, isVersion := versions(s.Cond)
			if !isVersion || s.Init != nil || s.Else != nil {
				if len(fields) == 0 && !reads(s) {
					continue
				}
				return nil, nil, fmt.Errorf("an if of an unknown form")
			}
			f, err = one(s.Body.List)
			f.from, f.to = from, to
		default:
			if reads(s) {
				return nil, nil, fmt.Errorf("a %T reads something", s)
			}
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		fields = append(fields, f)
	}
	return fields, tags, nil
}

// one reads the statements that decode one field.
func one(stmts []ast.Stmt) (field, error) {
	var f field
	for i, s := range stmts {
		switch s := s.(type) {
		case *ast.AssignStmt:
			if len(s.Rhs) != 1 {
				continue
			}
			switch rhs := s.Rhs[0].(type) {
			case *ast.CallExpr:
				if method, ok := reader(rhs); ok {
					if err := f.read(method); err != nil {
						return f, err
					}
				}
			case *ast.SelectorExpr: // v := s.Topics
				if is(rhs.X, "s") {
					f.name = rhs.Sel.Name
				}
			case *ast.UnaryExpr: // v := &s.CurrentLeader, a struct in place
				sel, ok := rhs.X.(*ast.SelectorExpr)
				if !ok || rhs.Op != token.AND || !is(sel.X, "s") {
					continue
				}
				var err error
				f.name, f.form = sel.Sel.Name, formStruct
				f.fields, f.tags, err = structure(withoutEnd(stmts[i+1:]))
				return f, err
			}
			if sel, ok := s.Lhs[0].(*ast.SelectorExpr); ok && is(sel.X, "s") {
				f.name = sel.Sel.Name
			}
		case *ast.IfStmt:
			if s.Init != nil { // if present := b.Int8(); present != -1 && b.Ok() {
				if !reads(s.Init) {
					continue // if err := b.Complete(); err != nil
				}
				if !strings.Contains(source(s.Cond), "present") {
					return f, fmt.Errorf("an if that reads")
				}
				var err error
				f.form = formNull
				f.fields, f.tags, err = structure(s.Body.List)
				return f, err
			}
			for method := range methods(s) {
				if sizes[method] != 0 {
					return f, fmt.Errorf("%s in an if", method)
				}
				if err := f.read(method); err != nil {
					return f, err
				}
			}
			if of := made(s); of != "" {
				f.of = of
			}
		case *ast.BlockStmt: // the number of an enumeration
			of, err := one(s.List)
			if err != nil || of.form != "number" {
				return f, fmt.Errorf("a block in a field: %w", err)
			}
			f.form, f.size = of.form, of.size
		case *ast.ForStmt:
			if f.form != "array" {
				return f, fmt.Errorf("a loop without a length")
			}
			return f, element(&f, s.Body.List, stmts[i+1:])
		}
	}
	if f.form == "" || f.form == "array" {
		return f, fmt.Errorf("a field %q without a form", f.name)
	}
	return f, nil
}

// read records what one method of the reader tells about the field.
func (f *field) read(method string) error {
	switch {
	case sizes[method] != 0:
		f.form, f.size = "number", sizes[method]
	case texts[method] != "":
		f.form = texts[method]
	case method == "ArrayLen":
		f.form = "array"
	case strings.HasPrefix(method, "Unsafe"), strings.HasPrefix(method, "Compact"), method == "Ok", method == "Complete":
	default:
		return fmt.Errorf("%s is read", method)
	}
	return nil
}

// element reads the loop over an array.
func element(f *field, body, rest []ast.Stmt) error {
	if a, ok := body[0].(*ast.AssignStmt); ok && strings.HasPrefix(source(a.Rhs[0]), "&a[") {
		var err error
		f.form = "structs"
		f.fields, f.tags, err = structure(body)
		return err
	}
	of, err := one(body)
	switch {
	case err != nil:
		return err
	case of.form == "number":
		f.form, f.size = "numbers", of.size
	case of.form == "text":
		f.form = "texts"
	default:
		return fmt.Errorf("an array of %s", of.form)
	}
	return nil
}

// tagged reads the tagged fields that kmsg knows.
func tagged(stmts []ast.Stmt) (all []field, err error) {
	for _, s := range stmts {
		loop, ok := s.(*ast.ForStmt)
		if !ok {
			continue
		}
		for _, s := range loop.Body.List {
			for _, c := range s.(*ast.SwitchStmt).Body.List {
				c := c.(*ast.CaseClause)
				if c.List == nil {
					continue // default: tags that kmsg does not know
				}
				f, err := one(withoutEnd(c.Body[1:]))
				if err != nil {
					return nil, fmt.Errorf("tag %s: %w", source(c.List[0]), err)
				}
				f.tag = source(c.List[0])
				all = append(all, f)
			}
		}
	}
	return all, nil
}

// withoutEnd strips the check that a tagged field was read to its end.
func withoutEnd(stmts []ast.Stmt) []ast.Stmt {
	if n := len(stmts); n > 0 {
		if s, ok := stmts[n-1].(*ast.IfStmt); ok && s.Init != nil && !reads(s.Init) {
			return stmts[:n-1]
		}
	}
	return stmts
}

// versions reads a condition of the form version >= 1 && version <= 3.
func versions(e ast.Expr) (from, to string, ok bool) {
	for _, part := range strings.Split(source(e), " && ") {
		switch op, n, _ := strings.Cut(strings.TrimPrefix(part, "version "), " "); op {
		case ">=":
			from = n
		case "<=":
			to = n
		default:
			return "", "", false
		}
		if !strings.HasPrefix(part, "version ") {
			return "", "", false
		}
	}
	return from, to, true
}

// reader returns the method of a call b.Method().
func reader(c *ast.CallExpr) (string, bool) {
	sel, ok := c.Fun.(*ast.SelectorExpr)
	if !ok || !is(sel.X, "b") {
		return "", false
	}
	return sel.Sel.Name, true
}

// methods returns the methods of the reader that n calls.
func methods(n ast.Node) map[string]bool {
	all := map[string]bool{}
	ast.Inspect(n, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok {
			if m, ok := reader(c); ok {
				all[m] = true
			}
		}
		return true
	})
	return all
}

// reads reports whether n reads a field.
func reads(n ast.Node) bool {
	for m := range methods(n) {
		if m != "Ok" && m != "Complete" {
			return true
		}
	}
	return false
}

// made returns T of make([]T, l).
func made(n ast.Node) (of string) {
	ast.Inspect(n, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok && is(c.Fun, "make") {
			if a, ok := c.Args[0].(*ast.ArrayType); ok {
				of = source(a.Elt)
			}
		}
		return true
	})
	return of
}

func is(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

// source prints the few kinds of expressions that shapegen looks at.
func source(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.BasicLit:
		if n, err := strconv.Unquote(e.Value); err == nil {
			return n
		}
		return e.Value
	case *ast.BinaryExpr:
		return source(e.X) + " " + e.Op.String() + " " + source(e.Y)
	case *ast.UnaryExpr:
		return e.Op.String() + source(e.X)
	case *ast.IndexExpr:
		return source(e.X) + "[" + source(e.Index) + "]"
	case *ast.SelectorExpr:
		return source(e.X) + "." + e.Sel.Name
	case *ast.CallExpr:
		return source(e.Fun) + "()"
	}
	return fmt.Sprintf("%T", e)
}
