// @ts-check
/**
 * Disposes what `body` put into use, the last first, however it ends.
 * @template T
 * @param {(use: <R extends { dispose(): Promise<void> }>(resource: R) => R) => Promise<T>} body
 */
export async function using(body) {
  /** @type {{ dispose(): Promise<void> }[]} */
  const resources = []
  try {
    return await body((resource) => {
      resources.push(resource)
      return resource
    })
  } finally {
    for (const resource of resources.reverse()) await resource.dispose()
  }
}
