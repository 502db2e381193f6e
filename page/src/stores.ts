/** What the browser keeps for the page, in this tab or longer; where it keeps nothing, as long as the page is open. */

export interface Store {
  get: (key: string) => string | null;
  set: (key: string, value: string) => void;
  remove: (key: string) => void;
}

/** Browsers refuse a store by an error, when it is named or when it is full. */
function storeOf(open: () => Storage): Store {
  const own = new Map<string, string>();
  const tried = <T>(use: (store: Storage) => T): T | null => {
    try {
      return use(open());
    } catch {
      return null;
    }
  };
  return {
    get: (key) => own.get(key) ?? tried((store) => store.getItem(key)),
    set: (key, value) => {
      if (tried((store) => [store.setItem(key, value)])) own.delete(key);
      else own.set(key, value);
    },
    remove: (key) => {
      own.delete(key);
      tried((store) => store.removeItem(key));
    },
  };
}

export const ofTab = storeOf(() => window.sessionStorage);
export const ofBrowser = storeOf(() => window.localStorage);
