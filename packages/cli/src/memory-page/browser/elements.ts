/** The element with that id, or else of that name. It is there: memory-page.ts and this are one program. */
export function element<E extends HTMLElement>(id: string, type: new () => E): E {
  const found = document.getElementById(id) ?? document.querySelector(id)
  if (!(found instanceof type)) throw new Error(`the page has no ${id}`)
  return found
}

/** Names in a trace are anybody's: they become text, and never markup. */
export function make<K extends keyof HTMLElementTagNameMap>(
  name: K,
  content: string | readonly (Node | string)[] = [],
  className = '',
): HTMLElementTagNameMap[K] {
  const made = document.createElement(name)
  made.append(...(typeof content === 'string' ? [content] : content))
  if (className !== '') made.className = className
  return made
}

export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** The canvas's drawing context, its pixels those of the screen; sizes in CSS pixels. */
export function contextOf(canvas: HTMLCanvasElement, width: number, height: number): CanvasRenderingContext2D {
  const ratio = window.devicePixelRatio || 1
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)]
  if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high]
  canvas.style.height = `${height}px`
  const context = canvas.getContext('2d') as CanvasRenderingContext2D
  context.setTransform(ratio, 0, 0, ratio, 0, 0)
  context.clearRect(0, 0, width, height)
  return context
}

/** A colour of the theme: a custom property of page.css. */
export function themeColor(name: string): string {
  return getComputedStyle(document.body).getPropertyValue(`--${name}`).trim()
}
