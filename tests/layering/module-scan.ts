// What a TypeScript file imports, and whether it reads the environment or chooses a kind of host memory, from its syntax
// tree.
import { parseAst } from 'vitest/node'

interface ImportUse {
  /** The specifier, or null for `import(value)`. */
  readonly specifier: string | null
  /** `import()`, `require()` and their resolve(): at run time. */
  readonly dynamic: boolean
}

export interface ModuleScan {
  readonly imports: readonly ImportUse[]
  readonly readsEnvironment: boolean
  /** Names a device's method that takes `storage`. */
  readonly choosesHostStorage: boolean
}

interface Node {
  readonly type: string
  readonly [key: string]: unknown
}

/** Parses `source`; type-only imports count like all others. */
export function scanModule(source: string): ModuleScan {
  const imports: ImportUse[] = []
  let readsEnvironment = false
  let choosesHostStorage = false
  visit(parseAst(source, { lang: 'ts' }) as unknown as Node, (node) => {
    switch (node.type) {
      case 'ImportDeclaration':
      case 'ExportAllDeclaration':
      case 'ExportNamedDeclaration':
        if (node.source) imports.push({ specifier: textOf(node.source), dynamic: false })
        if (isProcess(textOf(node.source)) && importsName(node, 'env')) readsEnvironment = true
        break
      case 'TSImportType':
        imports.push({ specifier: textOf(node.source ?? node.argument), dynamic: false })
        break
      case 'TSExternalModuleReference':
        imports.push({ specifier: textOf(node.expression), dynamic: false })
        break
      case 'ImportExpression':
        imports.push({ specifier: textOf(node.source), dynamic: true })
        break
      case 'CallExpression':
        if (isRequire(node.callee as Node)) {
          imports.push({ specifier: textOf((node.arguments as unknown[])[0]), dynamic: true })
        }
        break
      case 'MemberExpression':
        if (nameOf(node.property) === 'env' && isProcessValue(node.object as Node)) readsEnvironment = true
        if (hostAllocations.includes(nameOf(node.property) ?? '')) choosesHostStorage = true
        break
      case 'VariableDeclarator':
        if (node.init && isProcessValue(node.init as Node) && destructures(node.id as Node, 'env'))
          readsEnvironment = true
        if (hostAllocations.some((name) => destructures(node.id as Node, name))) choosesHostStorage = true
        break
    }
  })
  return { imports, readsEnvironment, choosesHostStorage }
}

const hostAllocations = ['allocateHost', 'allocateHostParts']

function visit(node: Node, see: (node: Node) => void): void {
  see(node)
  for (const value of Object.values(node)) {
    for (const child of Array.isArray(value) ? value : [value]) {
      if (child !== null && typeof child === 'object' && typeof (child as Node).type === 'string')
        visit(child as Node, see)
    }
  }
}

/** The text of a literal, of a template without values, or of a type that is a literal; else null. */
function textOf(value: unknown): string | null {
  const node = value as Node | null | undefined
  if (!node) return null
  if (node.type === 'Literal') return typeof node.value === 'string' ? node.value : null
  if (node.type === 'TSLiteralType') return textOf(node.literal)
  if (node.type === 'TemplateLiteral') {
    const quasis = node.quasis as Array<{ value: { cooked: string } }>
    return quasis.length === 1 ? (quasis[0]?.value.cooked ?? null) : null
  }
  return null
}

/** `a` of `x.a` and of `x['a']`; an identifier's own name. */
function nameOf(value: unknown): string | null {
  const node = value as Node | null
  return node?.type === 'Identifier' ? (node.name as string) : textOf(node)
}

/** `require`, `require.resolve`, `import.meta.resolve`. */
function isRequire(callee: Node): boolean {
  if (callee.type === 'Identifier') return callee.name === 'require'
  if (callee.type !== 'MemberExpression' || nameOf(callee.property) !== 'resolve') return false
  const object = callee.object as Node
  return nameOf(object) === 'require' || object.type === 'MetaProperty'
}

function isProcess(specifier: string | null): boolean {
  return specifier === 'process' || specifier === 'node:process'
}

/** `process`, `globalThis.process`, `global.process`. */
function isProcessValue(node: Node): boolean {
  return nameOf(node) === 'process' || (node.type === 'MemberExpression' && nameOf(node.property) === 'process')
}

function importsName(node: Node, name: string): boolean {
  const specifiers = (node.specifiers ?? []) as Node[]
  return specifiers.some((specifier) => nameOf(specifier.imported ?? specifier.local) === name)
}

function destructures(pattern: Node, name: string): boolean {
  const properties = pattern.type === 'ObjectPattern' ? (pattern.properties as Node[]) : []
  return properties.some((property) => nameOf(property.key) === name)
}
